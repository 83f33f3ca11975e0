#pragma once

// Row dot products for AVX-512 with VNNI. In all of them the weight is the unsigned operand of vpdpbusd and
// the activation the signed one; the weight's zero point z is paid for by starting the integer accumulator at
// -z * sum(activations), which costs nothing at run time.

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)
#    define PLM_DOT_AVX512

#    include "dense_unpack_avx512.h"
#    include "quants.h"

#    define PLM_DOT_KERNEL(kind)                                                                                       \
        {                                                                                                              \
            kind::input_size, kind::prepare, {                                                                         \
                avx512::rows_of<kind, 1>, avx512::rows_of<kind, 2>, avx512::rows_of<kind, 4>, avx512::rows_of<kind, 8> \
            }                                                                                                          \
        }

namespace plm {
namespace avx512 {

inline __m512i dot4(__m512i acc, __m512i w_u8, __m512i x_s8) {
    return _mm512_dpbusd_epi32(acc, w_u8, x_s8);
}

// of one row and N tokens; min counts against v, for types that have mins
template <int N> struct dot_sum {
    __m512 v[N];
    __m256 min[N];

    float total(int t) const {
        return _mm512_reduce_add_ps(_mm512_sub_ps(v[t], _mm512_insertf32x8(_mm512_setzero_ps(), min[t], 0)));
    }
};

// a group of blocks: what add() takes at once, 4 blocks of Q4_0 or 2 of Q8_0
constexpr size_t GROUP_BYTES = 4 * sizeof(block_q4_0) + 8;
static_assert(GROUP_BYTES >= 2 * sizeof(block_q8_0), "a group must fit");

// -z * (sum of each 4 neighbouring activations), one for every lane of the accumulator
inline __m512i zero_point(int z, __m512i x_s8) {
    const __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), x_s8);
    return _mm512_mullo_epi32(sums, _mm512_set1_epi32(-z));
}

// 4 blocks of Q4_0 at a time: lanes 4b .. 4b+3 of the accumulator belong to block b
struct dot_q4_0 {
    static constexpr int QK = 128;

    struct group {
        int8_t  lo[64];  // values 0..15 of the 4 blocks
        int8_t  hi[64];  // values 16..31
        float   d[16];
        int32_t zero[16];
    };

    static int64_t n_groups(int64_t k) { return (k + QK - 1) / QK; }

    static size_t input_size(int64_t k) { return n_groups(k) * sizeof(group); }

    static void prepare(const float * x, void * input, int64_t k) {
        group * out = (group *) input;
        for (int64_t g = 0; g < n_groups(k); g++) {
            block_q8_0    q[4] = {};
            const int64_t left = k - g * QK;
            quantize_row_q8_0(x + g * QK, q, left < QK ? left : QK);
            for (int b = 0; b < 4; b++) {
                memcpy(out[g].lo + b * 16, q[b].qs, 16);
                memcpy(out[g].hi + b * 16, q[b].qs + 16, 16);
                for (int i = 0; i < 4; i++) {
                    out[g].d[b * 4 + i] = GGML_CPU_COMPUTE_FP16_TO_FP32(q[b].d);
                }
            }
            const __m512i lo = _mm512_loadu_si512(out[g].lo);
            const __m512i hi = _mm512_loadu_si512(out[g].hi);
            _mm512_storeu_si512(out[g].zero, _mm512_add_epi32(zero_point(8, lo), zero_point(8, hi)));
        }
    }

    static int64_t n_whole(int64_t k) { return k / QK; }

    static void load_tail(const char * row, int64_t k, char * tail) {
        memcpy(tail, row + k / QK * 4 * sizeof(block_q4_0), k % QK / QK4_0 * sizeof(block_q4_0));
    }

    template <int N>
    static void add(const char * row, int64_t at, const char * const * inputs, int64_t g, dot_sum<N> & sum) {
        const block_q4_0 * w      = (const block_q4_0 *) row + 4 * at;
        const __m512       d      = scales_q4_0(w);
        const __m512i      raw    = load4x16(w[0].qs, w[1].qs, w[2].qs, w[3].qs);
        const __m512i      nibble = _mm512_set1_epi8(0x0F);
        const __m512i      lo     = _mm512_and_si512(raw, nibble);
        const __m512i      hi     = _mm512_and_si512(_mm512_srli_epi16(raw, 4), nibble);
        for (int t = 0; t < N; t++) {
            const group & in  = ((const group *) inputs[t])[g];
            __m512i       acc = dot4(_mm512_loadu_si512(in.zero), lo, _mm512_loadu_si512(in.lo));
            acc               = dot4(acc, hi, _mm512_loadu_si512(in.hi));
            const __m512 dd   = _mm512_mul_ps(d, _mm512_loadu_ps(in.d));
            sum.v[t]          = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), dd, sum.v[t]);
        }
    }
};

// 2 blocks of Q8_0 at a time, weights shifted to unsigned by flipping the sign bit (z = 128)
struct dot_q8_0 {
    static constexpr int QK = 64;

    struct group {
        int8_t  q[64];
        float   d[16];
        int32_t zero[16];
    };

    static int64_t n_groups(int64_t k) { return (k + QK - 1) / QK; }

    static size_t input_size(int64_t k) { return n_groups(k) * sizeof(group); }

    static void prepare(const float * x, void * input, int64_t k) {
        group * out = (group *) input;
        for (int64_t g = 0; g < n_groups(k); g++) {
            block_q8_0    q[2] = {};
            const int64_t left = k - g * QK;
            quantize_row_q8_0(x + g * QK, q, left < QK ? left : QK);
            for (int b = 0; b < 2; b++) {
                memcpy(out[g].q + b * 32, q[b].qs, 32);
                for (int i = 0; i < 8; i++) {
                    out[g].d[b * 8 + i] = GGML_CPU_COMPUTE_FP16_TO_FP32(q[b].d);
                }
            }
            _mm512_storeu_si512(out[g].zero, zero_point(128, _mm512_loadu_si512(out[g].q)));
        }
    }

    static int64_t n_whole(int64_t k) { return k / QK; }

    static void load_tail(const char * row, int64_t k, char * tail) {
        memcpy(tail, row + k / QK * 2 * sizeof(block_q8_0), sizeof(block_q8_0));
    }

    template <int N>
    static void add(const char * row, int64_t at, const char * const * inputs, int64_t g, dot_sum<N> & sum) {
        const block_q8_0 * w = (const block_q8_0 *) row + 2 * at;
        const __m256i      halves =
            _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi16(w[0].d)), _mm_set1_epi16(w[1].d), 1);
        const __m512  d = _mm512_cvtph_ps(halves);
        const __m512i u = _mm512_xor_si512(load2x32(w[0].qs, w[1].qs), _mm512_set1_epi8((char) 0x80));
        for (int t = 0; t < N; t++) {
            const group & in  = ((const group *) inputs[t])[g];
            const __m512i acc = dot4(_mm512_loadu_si512(in.zero), u, _mm512_loadu_si512(in.q));
            const __m512  dd  = _mm512_mul_ps(d, _mm512_loadu_ps(in.d));
            sum.v[t]          = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), dd, sum.v[t]);
        }
    }
};

// Q4_K: a load of 64 bytes holds sub-blocks (0, 2) in its low nibbles and (1, 3) in its high ones
struct dot_q4_K {
    static constexpr int QK = QK_K;

    struct group {
        int8_t  q[4][64];  // sub-blocks (0, 2), (1, 3), (4, 6), (5, 7)
        int32_t sums[8];   // of each sub-block, for the mins
        float   d;
        int32_t pad[7];
    };

    static size_t input_size(int64_t k) { return k / QK_K * sizeof(group); }

    static void prepare(const float * x, void * input, int64_t k) {
        static constexpr int order[8] = { 0, 2, 1, 3, 4, 6, 5, 7 };

        group * out = (group *) input;
        for (int64_t g = 0; g < k / QK_K; g++) {
            block_q8_K q;
            quantize_row_q8_K(x + g * QK_K, &q, QK_K);
            out[g].d = q.d;
            for (int s = 0; s < 8; s++) {
                memcpy(&out[g].q[s / 2][s % 2 * 32], q.qs + order[s] * 32, 32);
                out[g].sums[s] = q.bsums[2 * s] + q.bsums[2 * s + 1];
            }
        }
    }

    static int64_t n_whole(int64_t k) { return k / QK_K; }

    static void load_tail(const char *, int64_t, char *) {}

    template <int N>
    static void add(const char * row, int64_t at, const char * const * inputs, int64_t g, dot_sum<N> & sum) {
        const block_q4_K & w      = ((const block_q4_K *) row)[at];
        const __m512i      nibble = _mm512_set1_epi8(0x0F);
        const __m512i      pick   = _mm512_set_epi32(2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0);
        const __m512i      step   = _mm512_set1_epi32(1);

        uint8_t scales[8];
        uint8_t mins[8];
        unpack_scales_q4_K(w.scales, scales, mins);
        const __m512i sc = _mm512_castsi256_si512(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *) scales)));
        const __m256i mn = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *) mins));

        __m512i u[4];
        __m512i s[4];
        for (int h = 0; h < 2; h++) {
            const __m512i raw = _mm512_loadu_si512(w.qs + h * 64);
            const __m512i idx = _mm512_add_epi32(pick, _mm512_set1_epi32(4 * h));
            u[2 * h]          = _mm512_and_si512(raw, nibble);
            u[2 * h + 1]      = _mm512_and_si512(_mm512_srli_epi16(raw, 4), nibble);
            s[2 * h]          = _mm512_permutexvar_epi32(idx, sc);
            s[2 * h + 1]      = _mm512_permutexvar_epi32(_mm512_add_epi32(idx, step), sc);
        }
        const float d    = GGML_CPU_COMPUTE_FP16_TO_FP32(w.d);
        const float dmin = GGML_CPU_COMPUTE_FP16_TO_FP32(w.dmin);
        for (int t = 0; t < N; t++) {
            const group & in  = ((const group *) inputs[t])[g];
            __m512i       acc = _mm512_setzero_si512();
            for (int i = 0; i < 4; i++) {
                const __m512i part = dot4(_mm512_setzero_si512(), u[i], _mm512_loadu_si512(in.q[i]));
                acc                = _mm512_add_epi32(acc, _mm512_mullo_epi32(part, s[i]));
            }
            const __m256i m = _mm256_mullo_epi32(mn, _mm256_loadu_si256((const __m256i *) in.sums));
            sum.v[t]        = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), _mm512_set1_ps(d * in.d), sum.v[t]);
            sum.min[t]      = _mm256_fmadd_ps(_mm256_cvtepi32_ps(m), _mm256_set1_ps(dmin * in.d), sum.min[t]);
        }
    }
};

struct dot_q6_K {
    static constexpr int QK = QK_K;

    struct group {
        int8_t  q[4][64];
        int32_t zero[4][16];
        float   d;
        int32_t pad[15];
    };

    static size_t input_size(int64_t k) { return k / QK_K * sizeof(group); }

    static void prepare(const float * x, void * input, int64_t k) {
        group * out = (group *) input;
        for (int64_t g = 0; g < k / QK_K; g++) {
            block_q8_K q;
            quantize_row_q8_K(x + g * QK_K, &q, QK_K);
            out[g].d = q.d;
            memcpy(out[g].q, q.qs, QK_K);
            for (int i = 0; i < 4; i++) {
                _mm512_storeu_si512(out[g].zero[i], zero_point(32, _mm512_loadu_si512(out[g].q[i])));
            }
        }
    }

    static int64_t n_whole(int64_t k) { return k / QK_K; }

    static void load_tail(const char *, int64_t, char *) {}

    template <int N>
    static void add(const char * row, int64_t at, const char * const * inputs, int64_t g, dot_sum<N> & sum) {
        const block_q6_K & w    = ((const block_q6_K *) row)[at];
        const __m512i      pick = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
        const __m512i      sc   = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *) w.scales));

        __m512i u[4];
        __m512i s[4];
        unpack_q6_K(w.ql, w.qh, u);
        unpack_q6_K(w.ql + 64, w.qh + 32, u + 2);
        for (int i = 0; i < 4; i++) {
            s[i] = _mm512_permutexvar_epi32(_mm512_add_epi32(pick, _mm512_set1_epi32(4 * i)), sc);
        }
        const float d = GGML_CPU_COMPUTE_FP16_TO_FP32(w.d);
        for (int t = 0; t < N; t++) {
            const group & in  = ((const group *) inputs[t])[g];
            __m512i       acc = _mm512_setzero_si512();
            for (int i = 0; i < 4; i++) {
                const __m512i part = dot4(_mm512_loadu_si512(in.zero[i]), u[i], _mm512_loadu_si512(in.q[i]));
                acc                = _mm512_add_epi32(acc, _mm512_mullo_epi32(part, s[i]));
            }
            sum.v[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), _mm512_set1_ps(d * in.d), sum.v[t]);
        }
    }
};

// out[t * stride + r]. One row after the other: several at a time share the loads of the activations but make as
// many streams, which the hardware prefetchers do not follow (2026-11, Zen 5: 4 rows halve the speed).
template <typename K, int N>
void rows_of(const char *         rows,
             size_t               row_size,
             int64_t              n_rows,
             const char * const * inputs,
             int64_t              k,
             float *              out,
             int64_t              stride) {
    const int64_t n_whole = K::n_whole(k);
    for (int64_t r = 0; r < n_rows; r++) {
        const char * row = rows + r * row_size;
        dot_sum<N>   sum = {};
        for (int64_t g = 0; g < n_whole; g++) {
            K::template add<N>(row, g, inputs, g, sum);
        }
        if (n_whole * K::QK < k) {
            char tail[GROUP_BYTES] = {};
            K::load_tail(row, k, tail);
            K::template add<N>(tail, 0, inputs, n_whole, sum);
        }
        for (int t = 0; t < N; t++) {
            out[t * stride + r] = sum.total(t);
        }
    }
}

}  // namespace avx512
}  // namespace plm

#endif
