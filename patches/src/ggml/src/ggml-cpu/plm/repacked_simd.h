#pragma once

// Loads of loops over rearranged rows, and what keeps compilers to the order and the addressing they are written in.

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

}  // namespace plm
