#include "sparse_live_list.h"

#include <algorithm>

namespace plm {

namespace {

// 16 floats are one register of AVX-512, two of AVX2, four of NEON
typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));

#if defined(__AVX512F__)
constexpr int LIST_VECS  = 8;  // accumulators of one token
constexpr int DENSE_VECS = 4;  // of each token of a dense product
#else
constexpr int LIST_VECS  = 2;
constexpr int DENSE_VECS = 1;
#endif

// Share of live neurons above which the dense product wins (2026-11, Zen 5): it does 25 multiply-adds a cycle on
// all activations, the lists 14 on live ones.
constexpr float DENSE_FROM = 0.6f;

// Neurons of one pass of the dense product: the pieces of their rows lie a power of two apart, and more of them
// than this fall out of the few cache sets they share.
constexpr int64_t DENSE_NEURONS = 64;

// act[t * LIST_NEURONS + i] * tile[i * width + c] over neurons begin .. end
template <int N>
void dense_pass(const float * act, const float * tile, int64_t begin, int64_t end, int64_t width, float * sum) {
    for (int64_t c = 0; c < width; c += 16 * DENSE_VECS) {
        vec v[N][DENSE_VECS];
        for (int t = 0; t < N; t++) {
            for (int j = 0; j < DENSE_VECS; j++) {
                v[t][j] = *(const vec *) (sum + t * width + c + 16 * j);
            }
        }
        for (int64_t i = begin; i < end; i++) {
            vec w[DENSE_VECS];
            for (int j = 0; j < DENSE_VECS; j++) {
                w[j] = *(const vec *) (tile + i * width + c + 16 * j);
            }
            for (int t = 0; t < N; t++) {
                for (int j = 0; j < DENSE_VECS; j++) {
                    v[t][j] += act[t * LIST_NEURONS + i] * w[j];
                }
            }
        }
        for (int t = 0; t < N; t++) {
            for (int j = 0; j < DENSE_VECS; j++) {
                *(vec *) (sum + t * width + c + 16 * j) = v[t][j];
            }
        }
    }
}

void spread(const live_list & list, int64_t n_neurons, float * act) {
    if (list.n == n_neurons) {
        std::copy_n(list.act, n_neurons, act);
        return;
    }
    std::fill_n(act, n_neurons, 0.0f);
    for (int64_t i = 0; i < list.n; i++) {
        act[list.neuron[i]] = list.act[i];
    }
}

}  // namespace

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

bool dense_pays(int64_t n_live, int64_t n_all) {
    return n_live > DENSE_FROM * n_all;
}

void add_dense(const live_list * lists,
               int64_t           n_lists,
               const float *     tile,
               int64_t           n_neurons,
               int64_t           width,
               float *           sum) {
    float act[DENSE_TOKENS][LIST_NEURONS];
    for (int64_t t = 0; t < n_lists; t++) {
        spread(lists[t], n_neurons, act[t]);
    }
    for (int64_t i = 0; i < n_neurons; i += DENSE_NEURONS) {
        const int64_t end = std::min(i + DENSE_NEURONS, n_neurons);
        if (n_lists == DENSE_TOKENS) {
            dense_pass<DENSE_TOKENS>(act[0], tile, i, end, width, sum);
            continue;
        }
        for (int64_t t = 0; t < n_lists; t++) {
            dense_pass<1>(act[t], tile, i, end, width, sum + t * width);
        }
    }
}

}  // namespace plm
