#pragma once

// How rows are rearranged, and loads of loops over them, with what keeps compilers to the order and the addressing they
// are written in.

#include <cstdint>
#include <cstring>

namespace plm {

inline uint32_t load_word(const uint8_t * p) {
    uint32_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

// What comes later is not begun before x is there. Left alone, compilers load everything at once and then spill it.
template <class T> inline void settle(T & x) {
    __asm__ volatile("" : "+w"(x)::"memory");
}

// The address after what was just read, which the load itself can leave behind. Unless it is hidden from them,
// compilers keep one index for everything and add it anew for each load.
inline void pass(const uint8_t *& p, int64_t bytes) {
    p += bytes;
    __asm__ volatile("" : "+r"(p));
}

// Blocks of N rows of nb blocks each, one after the other: fill(out, rows, b) writes block b of these rows as one.
template <int N, class packed, class block, class filler>
void rearrange(const block * src, int64_t nb, int64_t n_rows, packed * out, filler && fill) {
    for (int64_t r = 0; r < n_rows; r += N) {
        const block * rows[N];
        for (int i = 0; i < N; i++) {
            rows[i] = src + (r + i) * nb;
        }
        for (int64_t b = 0; b < nb; b++) {
            fill(*out++, rows, b);
        }
    }
}

}  // namespace plm
