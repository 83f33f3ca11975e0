#pragma once

// The prompt GEMM for AVX-512 VNNI: tiles of 32 rows x 6 tokens, 12 integer and 12 float accumulators. For each
// 32 columns a row's 4 neighbouring bytes are one lane of vpdpbusd, so a tile's block is 8 steps of 2 loads,
// 6 broadcasts and 12 dot products.

#include "dense_gemm.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)
#    define PLM_GEMM_KERNELS
#    define PLM_GEMM_KERNEL(kind)                                                                \
        { avx512::GEMM_TOKENS,       avx512::kind::input_block_size, avx512::kind::scratch_size, \
          avx512::kind::pack_inputs, avx512::kind::pack_rows,        avx512::kind::tile }

#    include "dense_unpack_avx512.h"
#    include "quants.h"

#    include <algorithm>

namespace plm {
namespace avx512 {

constexpr int GEMM_TOKENS = 6;
constexpr int GEMM_STRIPE = 32;  // rows of a register tile
constexpr int GEMM_BLOCK  = 32;  // columns between two roundings to float

// one block of columns of a tile of tokens; SUB columns share a weight scale
template <int SUB> struct gemm_x {
    int8_t  q[GEMM_TOKENS][GEMM_BLOCK];
    float   d[GEMM_TOKENS];
    float   d_sum[GEMM_TOKENS];                   // d * sum of q, for types with mins
    int32_t zero[GEMM_BLOCK / SUB][GEMM_TOKENS];  // -zero point * sum of q
};

// one block of columns of a stripe of rows
template <int SUB> struct alignas(64) gemm_w {
    uint8_t q[8][GEMM_STRIPE][4];
    float   d[GEMM_BLOCK / SUB][GEMM_STRIPE];
};

template <int SUB> void pack_input_block(const int8_t * q, float d, int t, int zero_point, gemm_x<SUB> & out) {
    memcpy(out.q[t], q, GEMM_BLOCK);
    int total = 0;
    for (int s = 0; s < GEMM_BLOCK / SUB; s++) {
        int sum = 0;
        for (int i = 0; i < SUB; i++) {
            sum += q[s * SUB + i];
        }
        out.zero[s][t] = -zero_point * sum;
        total += sum;
    }
    out.d[t]     = d;
    out.d_sum[t] = d * total;
}

template <int SUB>
void pack_inputs_q8_0(const float * const * x, int64_t n_tokens, int64_t k, int zero_point, gemm_x<SUB> * out) {
    memset((void *) out, 0, k / GEMM_BLOCK * sizeof(*out));
    for (int t = 0; t < n_tokens; t++) {
        for (int64_t b = 0; b < k / GEMM_BLOCK; b++) {
            block_q8_0 q;
            quantize_row_q8_0(x[t] + b * GEMM_BLOCK, &q, GEMM_BLOCK);
            pack_input_block<SUB>(q.qs, GGML_CPU_COMPUTE_FP16_TO_FP32(q.d), t, zero_point, out[b]);
        }
    }
}

template <int SUB>
void pack_inputs_q8_K(const float * const * x, int64_t n_tokens, int64_t k, int zero_point, gemm_x<SUB> * out) {
    memset((void *) out, 0, k / GEMM_BLOCK * sizeof(*out));
    for (int t = 0; t < n_tokens; t++) {
        for (int64_t g = 0; g < k / QK_K; g++) {
            block_q8_K q;
            quantize_row_q8_K(x[t] + g * QK_K, &q, QK_K);
            for (int b = 0; b < 8; b++) {
                pack_input_block<SUB>(q.qs + b * GEMM_BLOCK, q.d, t, zero_point, out[g * 8 + b]);
            }
        }
    }
}

// 16 bytes of each of 16 rows -> v[j]: the j-th 4 bytes of all rows, in the order of the rows
inline void transpose16(const uint8_t * const * rows, size_t offset, __m512i v[4]) {
    __m512i a[4];
    for (int i = 0; i < 4; i++) {
        a[i] = load4x16(rows[i] + offset, rows[4 + i] + offset, rows[8 + i] + offset, rows[12 + i] + offset);
    }
    const __m512i lo01 = _mm512_unpacklo_epi32(a[0], a[1]);
    const __m512i hi01 = _mm512_unpackhi_epi32(a[0], a[1]);
    const __m512i lo23 = _mm512_unpacklo_epi32(a[2], a[3]);
    const __m512i hi23 = _mm512_unpackhi_epi32(a[2], a[3]);
    v[0]               = _mm512_unpacklo_epi64(lo01, lo23);
    v[1]               = _mm512_unpackhi_epi64(lo01, lo23);
    v[2]               = _mm512_unpacklo_epi64(hi01, hi23);
    v[3]               = _mm512_unpackhi_epi64(hi01, hi23);
}

// 16 bytes of nibbles of 16 rows: the low ones are columns 0..15 of `low`, the high ones columns `at` of `high`
template <typename W>
void put_nibbles(const uint8_t * const * rows,
                 size_t                  offset,
                 W &                     low,
                 int                     low_step,
                 W &                     high,
                 int                     high_step,
                 int                     half) {
    const __m512i nibble = _mm512_set1_epi8(0x0F);
    __m512i       v[4];
    transpose16(rows, offset, v);
    for (int j = 0; j < 4; j++) {
        _mm512_store_si512(low.q[low_step + j][16 * half], _mm512_and_si512(v[j], nibble));
        _mm512_store_si512(high.q[high_step + j][16 * half], _mm512_and_si512(_mm512_srli_epi16(v[j], 4), nibble));
    }
}

template <typename W>
void put_bytes(const uint8_t * const * rows, size_t offset, W & out, int step, int half, uint8_t flip) {
    __m512i v[4];
    transpose16(rows, offset, v);
    for (int j = 0; j < 4; j++) {
        _mm512_store_si512(out.q[step + j][16 * half], _mm512_xor_si512(v[j], _mm512_set1_epi8((char) flip)));
    }
}

// half a stripe: 16 rows; rows past the end repeat the last one, what they give is never stored
struct half_rows {
    const uint8_t * p[16];

    half_rows(const char * rows, size_t row_size, int64_t n, int64_t first) {
        for (int64_t i = 0; i < 16; i++) {
            p[i] = (const uint8_t *) rows + std::min(first + i, n - 1) * row_size;
        }
    }

    short half_at(int i, size_t at) const {
        short h;
        memcpy(&h, p[i] + at, sizeof(h));
        return h;
    }

    // the fp16 scales that lie `at` bytes into the rows; inserted one by one, a gather measured slower
    __m512 scales(size_t at) const {
        return _mm512_cvtph_ps(_mm256_set_epi16(half_at(15, at), half_at(14, at), half_at(13, at), half_at(12, at),
                                                half_at(11, at), half_at(10, at), half_at(9, at), half_at(8, at),
                                                half_at(7, at), half_at(6, at), half_at(5, at), half_at(4, at),
                                                half_at(3, at), half_at(2, at), half_at(1, at), half_at(0, at)));
    }
};

// one stripe of rows against one tile of tokens
template <int SUB, bool MIN>
void stripe_tile(const gemm_w<SUB> * w,
                 const float *       mins,
                 const gemm_x<SUB> * x,
                 int64_t             n_blocks,
                 __m512              sum[GEMM_TOKENS][2]) {
    for (int t = 0; t < GEMM_TOKENS; t++) {
        sum[t][0] = _mm512_setzero_ps();
        sum[t][1] = _mm512_setzero_ps();
    }
    for (int64_t b = 0; b < n_blocks; b++) {
#    pragma GCC unroll 2
        for (int s = 0; s < GEMM_BLOCK / SUB; s++) {
            __m512i acc[GEMM_TOKENS][2];
#    pragma GCC unroll 6
            for (int t = 0; t < GEMM_TOKENS; t++) {
                acc[t][0] = acc[t][1] = _mm512_set1_epi32(x[b].zero[s][t]);
            }
#    pragma GCC unroll 8
            for (int j = s * SUB / 4; j < (s + 1) * SUB / 4; j++) {
                const __m512i w0 = _mm512_load_si512(w[b].q[j][0]);
                const __m512i w1 = _mm512_load_si512(w[b].q[j][16]);
#    pragma GCC unroll 6
                for (int t = 0; t < GEMM_TOKENS; t++) {
                    int32_t x4;
                    memcpy(&x4, &x[b].q[t][4 * j], sizeof(x4));
                    const __m512i v = _mm512_set1_epi32(x4);
                    acc[t][0]       = _mm512_dpbusd_epi32(acc[t][0], w0, v);
                    acc[t][1]       = _mm512_dpbusd_epi32(acc[t][1], w1, v);
                }
            }
            const __m512 d0 = _mm512_load_ps(w[b].d[s]);
            const __m512 d1 = _mm512_load_ps(w[b].d[s] + 16);
#    pragma GCC unroll 6
            for (int t = 0; t < GEMM_TOKENS; t++) {
                const __m512 d = _mm512_set1_ps(x[b].d[t]);
                sum[t][0]      = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc[t][0]), d0), d, sum[t][0]);
                sum[t][1]      = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc[t][1]), d1), d, sum[t][1]);
            }
        }
        if (MIN) {
            const __m512 m0 = _mm512_load_ps(mins + b * GEMM_STRIPE);
            const __m512 m1 = _mm512_load_ps(mins + b * GEMM_STRIPE + 16);
#    pragma GCC unroll 6
            for (int t = 0; t < GEMM_TOKENS; t++) {
                const __m512 d = _mm512_set1_ps(x[b].d_sum[t]);
                sum[t][0]      = _mm512_fnmadd_ps(m0, d, sum[t][0]);
                sum[t][1]      = _mm512_fnmadd_ps(m1, d, sum[t][1]);
            }
        }
    }
}

// what the four types share; Q says how its rows unpack
template <typename Q, int SUB, bool MIN> struct gemm_of {
    using W = gemm_w<SUB>;
    using X = gemm_x<SUB>;

    static size_t input_block_size() { return sizeof(X); }

    static size_t stripe_size(int64_t k) {
        return k / GEMM_BLOCK * (sizeof(W) + (MIN ? GEMM_STRIPE * sizeof(float) : 0));
    }

    static size_t scratch_size(int64_t k) { return GEMM_ROWS / GEMM_STRIPE * stripe_size(k); }

    static void pack_rows(const char * rows, size_t row_size, int64_t n, int64_t k, void * scratch) {
        for (int64_t r = 0; r < n; r += GEMM_STRIPE) {
            W *     w    = (W *) ((char *) scratch + r / GEMM_STRIPE * stripe_size(k));
            float * mins = (float *) (w + k / GEMM_BLOCK);
            for (int half = 0; half < 2; half++) {
                const half_rows half_stripe(rows, row_size, n, r + 16 * half);
                Q::pack_half(half_stripe, k, half, w, mins);
            }
        }
    }

    static void tile(const void * packed,
                     int64_t      n,
                     int64_t      k,
                     const void * inputs,
                     int64_t      n_tokens,
                     float *      out,
                     int64_t      stride) {
        const int64_t n_blocks = k / GEMM_BLOCK;
        for (int64_t r = 0; r < n; r += GEMM_STRIPE) {
            const W *      w    = (const W *) ((const char *) packed + r / GEMM_STRIPE * stripe_size(k));
            const uint32_t mask = n - r < GEMM_STRIPE ? (1u << (n - r)) - 1 : 0xFFFFFFFFu;
            __m512         sum[GEMM_TOKENS][2];
            stripe_tile<SUB, MIN>(w, (const float *) (w + n_blocks), (const X *) inputs, n_blocks, sum);
#    pragma GCC unroll 6
            for (int t = 0; t < GEMM_TOKENS; t++) {
                if (t < n_tokens) {
                    _mm512_mask_storeu_ps(out + t * stride + r, (__mmask16) mask, sum[t][0]);
                    _mm512_mask_storeu_ps(out + t * stride + r + 16, (__mmask16) (mask >> 16), sum[t][1]);
                }
            }
        }
    }
};

struct gemm_q4_0 : gemm_of<gemm_q4_0, 32, false> {
    static void pack_inputs(const float * const * x, int64_t n_tokens, int64_t k, void * out) {
        pack_inputs_q8_0(x, n_tokens, k, 8, (X *) out);
    }

    static void pack_half(const half_rows & rows, int64_t k, int half, W * w, float *) {
        for (int64_t b = 0; b < k / QK4_0; b++) {
            const size_t at = b * sizeof(block_q4_0);
            put_nibbles(rows.p, at + offsetof(block_q4_0, qs), w[b], 0, w[b], 4, half);
            _mm512_store_ps(w[b].d[0] + 16 * half, rows.scales(at));
        }
    }
};

struct gemm_q8_0 : gemm_of<gemm_q8_0, 32, false> {
    static void pack_inputs(const float * const * x, int64_t n_tokens, int64_t k, void * out) {
        pack_inputs_q8_0(x, n_tokens, k, 128, (X *) out);
    }

    static void pack_half(const half_rows & rows, int64_t k, int half, W * w, float *) {
        for (int64_t b = 0; b < k / QK8_0; b++) {
            const size_t at = b * sizeof(block_q8_0);
            put_bytes(rows.p, at + offsetof(block_q8_0, qs), w[b], 0, half, 0x80);
            put_bytes(rows.p, at + offsetof(block_q8_0, qs) + 16, w[b], 4, half, 0x80);
            _mm512_store_ps(w[b].d[0] + 16 * half, rows.scales(at));
        }
    }
};

struct gemm_q4_K : gemm_of<gemm_q4_K, 32, true> {
    static void pack_inputs(const float * const * x, int64_t n_tokens, int64_t k, void * out) {
        pack_inputs_q8_K(x, n_tokens, k, 0, (X *) out);
    }

    static void pack_half(const half_rows & rows, int64_t k, int half, W * w, float * mins) {
        for (int64_t g = 0; g < k / QK_K; g++) {
            const size_t at = g * sizeof(block_q4_K);
            W *          wg = w + g * 8;
            for (int j = 0; j < 8; j++) {  // 16 bytes: half of the columns of sub-blocks 2 * (j / 2) and the next
                const int step = j % 2 * 4;
                put_nibbles(rows.p, at + offsetof(block_q4_K, qs) + 16 * j, wg[j / 2 * 2], step, wg[j / 2 * 2 + 1],
                            step, half);
            }
            for (int i = 0; i < 16; i++) {
                const block_q4_K & block = *(const block_q4_K *) (rows.p[i] + at);
                uint8_t            sc[8];
                uint8_t            mn[8];
                unpack_scales_q4_K(block.scales, sc, mn);
                const float d    = GGML_CPU_COMPUTE_FP16_TO_FP32(block.d);
                const float dmin = GGML_CPU_COMPUTE_FP16_TO_FP32(block.dmin);
                for (int j = 0; j < 8; j++) {
                    wg[j].d[0][16 * half + i]                       = d * sc[j];
                    mins[(g * 8 + j) * GEMM_STRIPE + 16 * half + i] = dmin * mn[j];
                }
            }
        }
    }
};

struct gemm_q6_K : gemm_of<gemm_q6_K, 16, false> {
    static void pack_inputs(const float * const * x, int64_t n_tokens, int64_t k, void * out) {
        pack_inputs_q8_K(x, n_tokens, k, 32, (X *) out);
    }

    static void pack_half(const half_rows & rows, int64_t k, int half, W * w, float *) {
        alignas(64) uint8_t bytes[16][QK_K];
        const uint8_t *     p[16];
        for (int i = 0; i < 16; i++) {
            p[i] = bytes[i];
        }
        for (int64_t g = 0; g < k / QK_K; g++) {
            W * wg = w + g * 8;
            for (int i = 0; i < 16; i++) {
                const block_q6_K & block = *(const block_q6_K *) (rows.p[i] + g * sizeof(block_q6_K));
                __m512i            u[4];
                unpack_q6_K(block.ql, block.qh, u);
                unpack_q6_K(block.ql + 64, block.qh + 32, u + 2);
                for (int j = 0; j < 4; j++) {
                    _mm512_store_si512(bytes[i] + 64 * j, u[j]);
                }
                const float d = GGML_CPU_COMPUTE_FP16_TO_FP32(block.d);
                for (int j = 0; j < 16; j++) {
                    wg[j / 2].d[j % 2][16 * half + i] = d * block.scales[j];
                }
            }
            for (int b = 0; b < 8; b++) {
                put_bytes(p, 32 * b, wg[b], 0, half, 0);
                put_bytes(p, 32 * b + 16, wg[b], 4, half, 0);
            }
        }
    }
};

}  // namespace avx512
}  // namespace plm

#endif
