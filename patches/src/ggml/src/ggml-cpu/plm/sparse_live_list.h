#pragma once

// Which neurons fired for which token, segment by segment of neurons, so that a tile of `down` meets only the
// part of each token's list that concerns it.

#include "dense_gemm.h"
#include "ggml.h"

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__)
#    include <immintrin.h>
#endif

namespace plm {

constexpr int64_t LIST_NEURONS = GEMM_ROWS;  // of a segment
constexpr int64_t LIST_COLS    = 128;        // add_listed takes a multiple of it

struct live_list {
    const float *   act;
    const int32_t * neuron;  // within the segment
    int64_t         n;
};

// The lists of one segment lie one behind the other in the order of the tokens.
struct live_lists {
    int64_t   n_segments = 0;
    int64_t   n_tokens   = 0;
    int32_t * end        = nullptr;  // [n_segments][n_tokens + 1], end[0] = 0
    float *   act        = nullptr;  // [n_segments][capacity]
    int32_t * neuron     = nullptr;  // [n_segments][capacity]
    size_t    size       = 0;

    live_lists() = default;

    live_lists(int64_t n_ff, int64_t n_tokens, char * data) :
        n_segments((n_ff + LIST_NEURONS - 1) / LIST_NEURONS),
        n_tokens(n_tokens) {
        const size_t ends  = GGML_PAD(n_segments * (n_tokens + 1) * sizeof(int32_t), 64);
        const size_t items = n_segments * capacity() * sizeof(float);
        end                = (int32_t *) data;
        act                = (float *) (data + ends);
        neuron             = (int32_t *) (data + ends + items);
        size               = ends + 2 * items;
    }

    // everything may fire; a token is written 16 neurons at a time, hence the slack
    int64_t capacity() const { return LIST_NEURONS * n_tokens + 16; }

    int32_t end_of(int64_t segment, int64_t n) const { return end[segment * (n_tokens + 1) + n]; }

    live_list of(int64_t segment, int64_t token) const {
        const int64_t begin = segment * capacity() + end_of(segment, token);
        return { act + begin, neuron + begin, end_of(segment, token + 1) - end_of(segment, token) };
    }

    // fills one segment, token after token
    struct writer {
        int32_t * end;
        float *   act;
        int32_t * neuron;
        int32_t   n = 0;

        writer(const live_lists & lists, int64_t segment) :
            end(lists.end + segment * (lists.n_tokens + 1)),
            act(lists.act + segment * lists.capacity()),
            neuron(lists.neuron + segment * lists.capacity()) {
            *end++ = 0;
        }

        // the activations of all neurons of the segment
        void add_token(const float * y) {
#if defined(__AVX512F__)
            __m512i index = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
            for (int64_t i = 0; i < LIST_NEURONS; i += 16) {
                const __m512    v    = _mm512_loadu_ps(y + i);
                const __mmask16 live = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
                // compressed in a register: the form that stores is microcoded on Zen
                _mm512_storeu_ps(act + n, _mm512_maskz_compress_ps(live, v));
                _mm512_storeu_si512(neuron + n, _mm512_maskz_compress_epi32(live, index));
                n += __builtin_popcount(live);
                index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
            }
#else
            for (int32_t i = 0; i < LIST_NEURONS; i++) {
                act[n]    = y[i];
                neuron[n] = i;
                n += y[i] != 0.0f;
            }
#endif
            *end++ = n;
        }
    };
};

// relu(y)^2 over a segment; NaN becomes 0, as in ggml's relu
inline void relu_sqr(float * y) {
    for (int64_t i = 0; i < LIST_NEURONS; i++) {
        y[i] = y[i] > 0.0f ? y[i] * y[i] : 0.0f;
    }
}

// Rows of tile and sum are `width` floats, a multiple of LIST_COLS.

// sum[c] += act * tile[neuron][c] over the list
void add_list(const live_list & list, const float * tile, int64_t width, float * sum);

// The same for up to DENSE_TOKENS tokens as a dense product, for tiles where most neurons fired.
constexpr int64_t DENSE_TOKENS = 6;

bool dense_pays(int64_t n_live, int64_t n_all);

void add_dense(const live_list * lists,
               int64_t           n_lists,
               const float *     tile,
               int64_t           n_neurons,
               int64_t           width,
               float *           sum);

}  // namespace plm
