#include "sparse_live_list.h"

#include <algorithm>

namespace plm {

namespace {

// 16 floats are one register of AVX-512, two of AVX2, four of NEON
typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));

#if defined(__AVX512F__)
constexpr int LIST_VECS  = 8;  // accumulators of one token
constexpr int DENSE_VECS = 4;  // of each of LIST_TOKENS tokens
#else
constexpr int LIST_VECS  = 2;
constexpr int DENSE_VECS = 1;
#endif

// Neurons of one pass of the dense product: the pieces of their rows lie a power of two apart, and more of them
// than this fall out of the few cache sets they share.
constexpr int64_t DENSE_NEURONS = 64;

// Share of live neurons above which the dense product wins: it does 17 multiply-adds a cycle whatever the
// activations are, the lists 12 on live ones (2026-11, Zen 5).
constexpr float DENSE_FROM = 0.75f;

void add_list(const live_list & list, const float * tile, int64_t width, float * sum) {
    for (int64_t c = 0; c < width; c += 16 * LIST_VECS) {
        vec v[LIST_VECS];
        for (int j = 0; j < LIST_VECS; j++) {
            v[j] = *(const vec *) (sum + c + 16 * j);
        }
        for (int64_t i = 0; i < list.n; i++) {
            const float * row = tile + list.neuron[i] * width + c;
            const float   a   = list.act[i];
            for (int j = 0; j < LIST_VECS; j++) {
                v[j] += a * *(const vec *) (row + 16 * j);
            }
        }
        for (int j = 0; j < LIST_VECS; j++) {
            *(vec *) (sum + c + 16 * j) = v[j];
        }
    }
}

using dense_acts = float[LIST_NEURONS][LIST_TOKENS];

void add_dense(const dense_acts & act, const float * tile, int64_t begin, int64_t end, int64_t width, float * sum) {
    for (int64_t c = 0; c < width; c += 16 * DENSE_VECS) {
        vec v[LIST_TOKENS][DENSE_VECS];
        for (int t = 0; t < LIST_TOKENS; t++) {
            for (int j = 0; j < DENSE_VECS; j++) {
                v[t][j] = *(const vec *) (sum + t * width + c + 16 * j);
            }
        }
        for (int64_t i = begin; i < end; i++) {
            vec w[DENSE_VECS];
            for (int j = 0; j < DENSE_VECS; j++) {
                w[j] = *(const vec *) (tile + i * width + c + 16 * j);
            }
            for (int t = 0; t < LIST_TOKENS; t++) {
                for (int j = 0; j < DENSE_VECS; j++) {
                    v[t][j] += act[i][t] * w[j];
                }
            }
        }
        for (int t = 0; t < LIST_TOKENS; t++) {
            for (int j = 0; j < DENSE_VECS; j++) {
                *(vec *) (sum + t * width + c + 16 * j) = v[t][j];
            }
        }
    }
}

}  // namespace

void add_tile(const live_list * lists,
              int64_t           n_lists,
              const float *     tile,
              int64_t           n_neurons,
              int64_t           width,
              float *           sum) {
    int64_t n_live = 0;
    for (int64_t t = 0; t < n_lists; t++) {
        n_live += lists[t].n;
    }
    if (n_lists == LIST_TOKENS && n_live > DENSE_FROM * (LIST_TOKENS * n_neurons)) {
        dense_acts act = {};
        for (int64_t t = 0; t < LIST_TOKENS; t++) {
            for (int64_t i = 0; i < lists[t].n; i++) {
                act[lists[t].neuron[i]][t] = lists[t].act[i];
            }
        }
        for (int64_t i = 0; i < n_neurons; i += DENSE_NEURONS) {
            add_dense(act, tile, i, std::min(i + DENSE_NEURONS, n_neurons), width, sum);
        }
        return;
    }
    for (int64_t t = 0; t < n_lists; t++) {
        add_list(lists[t], tile, width, sum + t * width);
    }
}

}  // namespace plm
