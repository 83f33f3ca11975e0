#pragma once

// Scaled sums of rows for AVX-512: for each type, how one row's tile of columns is added to fp32 registers.

#include "sparse_axpy.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#    define PLM_AXPY_AVX512

#    include "dense_unpack_avx512.h"

namespace plm {
namespace avx512 {

inline __m512 load8u_f32(const uint8_t * p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) p)));
}

inline __m512 load8s_f32(const int8_t * p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *) p)));
}

struct axpy_q4_0 {
    static constexpr int TILE = 128;

    static void add(const char * src, float a, __m512 * acc) {
        const block_q4_0 * w      = (const block_q4_0 *) src;
        // permutexvar looks at the low 4 bits of a lane only: a nibble needs no mask
        const __m512       values = _mm512_set_ps(7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8);
        // scales go through memory: a broadcast that a load does leaves the shuffle ports to the values
        alignas(64) float  d[16];
        _mm512_store_ps(d, _mm512_mul_ps(scales_q4_0(w), _mm512_set1_ps(a)));
        for (int b = 0; b < 4; b++) {
            const __m512i q    = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) w[b].qs));
            const __m512  low  = _mm512_permutexvar_ps(q, values);
            const __m512  high = _mm512_permutexvar_ps(_mm512_srli_epi32(q, 4), values);
            acc[2 * b]         = _mm512_fmadd_ps(low, _mm512_set1_ps(d[4 * b]), acc[2 * b]);
            acc[2 * b + 1]     = _mm512_fmadd_ps(high, _mm512_set1_ps(d[4 * b]), acc[2 * b + 1]);
        }
    }
};

struct axpy_q8_0 {
    static constexpr int TILE = 128;

    static void add(const char * src, float a, __m512 * acc) {
        const block_q8_0 * w = (const block_q8_0 *) src;
        for (int b = 0; b < 4; b++) {
            const __m512 d = _mm512_set1_ps(a * GGML_CPU_COMPUTE_FP16_TO_FP32(w[b].d));
            acc[2 * b]     = _mm512_fmadd_ps(load8s_f32(w[b].qs), d, acc[2 * b]);
            acc[2 * b + 1] = _mm512_fmadd_ps(load8s_f32(w[b].qs + 16), d, acc[2 * b + 1]);
        }
    }
};

struct axpy_q4_K {
    static constexpr int TILE = 256;

    static void add(const char * src, float a, __m512 * acc) {
        const block_q4_K * w      = (const block_q4_K *) src;
        const __m512       values = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        uint8_t            sc[8];
        uint8_t            mn[8];
        unpack_scales_q4_K(w->scales, sc, mn);
        const float d    = a * GGML_CPU_COMPUTE_FP16_TO_FP32(w->d);
        const float dmin = a * GGML_CPU_COMPUTE_FP16_TO_FP32(w->dmin);
        for (int j = 0; j < 4; j++) {
            const __m512 d0 = _mm512_set1_ps(d * sc[2 * j]);
            const __m512 d1 = _mm512_set1_ps(d * sc[2 * j + 1]);
            const __m512 m0 = _mm512_set1_ps(dmin * mn[2 * j]);
            const __m512 m1 = _mm512_set1_ps(dmin * mn[2 * j + 1]);
            for (int h = 0; h < 2; h++) {
                const __m512i q  = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) (w->qs + 32 * j + 16 * h)));
                const __m512  v0 = _mm512_permutexvar_ps(q, values);
                const __m512  v1 = _mm512_permutexvar_ps(_mm512_srli_epi32(q, 4), values);
                __m512 *      y  = acc + 4 * j + h;
                y[0]             = _mm512_add_ps(y[0], _mm512_fmsub_ps(v0, d0, m0));
                y[2]             = _mm512_add_ps(y[2], _mm512_fmsub_ps(v1, d1, m1));
            }
        }
    }
};

struct axpy_q6_K {
    static constexpr int TILE = 256;

    static void add(const char * src, float a, __m512 * acc) {
        const block_q6_K * w = (const block_q6_K *) src;
        alignas(64) int8_t q[QK_K];
        alignas(64) float  d[16];

        __m512i u[4];
        unpack_q6_K(w->ql, w->qh, u);
        unpack_q6_K(w->ql + 64, w->qh + 32, u + 2);
        for (int i = 0; i < 4; i++) {
            _mm512_store_si512(q + 64 * i, _mm512_sub_epi8(u[i], _mm512_set1_epi8(32)));
        }
        const __m512 sc = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *) w->scales)));
        _mm512_store_ps(d, _mm512_mul_ps(sc, _mm512_set1_ps(a * GGML_CPU_COMPUTE_FP16_TO_FP32(w->d))));
        for (int i = 0; i < 16; i++) {
            acc[i] = _mm512_fmadd_ps(load8s_f32(q + 16 * i), _mm512_set1_ps(d[i]), acc[i]);
        }
    }
};

struct axpy_f16 {
    static constexpr int TILE = 128;

    static void add(const char * src, float a, __m512 * acc) {
        for (int i = 0; i < TILE / 16; i++) {
            const __m512 v = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) src + i));
            acc[i]         = _mm512_fmadd_ps(v, _mm512_set1_ps(a), acc[i]);
        }
    }
};

struct axpy_bf16 {
    static constexpr int TILE = 128;

    static void add(const char * src, float a, __m512 * acc) {
        for (int i = 0; i < TILE / 16; i++) {
            const __m512i v = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) src + i));
            acc[i]          = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(v, 16)), _mm512_set1_ps(a), acc[i]);
        }
    }
};

struct axpy_f32 {
    static constexpr int TILE = 128;

    static void add(const char * src, float a, __m512 * acc) {
        for (int i = 0; i < TILE / 16; i++) {
            acc[i] = _mm512_fmadd_ps(_mm512_loadu_ps(src + 64 * i), _mm512_set1_ps(a), acc[i]);
        }
    }
};

// returns how many columns are done: the whole tiles
template <typename K>
int64_t axpy_tiles(size_t tile_size, const axpy_rows & rows, const axpy_rows & next, int64_t n, float * acc) {
    constexpr int REGS = K::TILE / 16;

    const int64_t n_tiles = n / K::TILE;
    const int64_t n_lines = (n_tiles * tile_size + 63) / 64;
    for (int64_t i = 0; i < n_tiles; i++) {
        float * y = acc + i * K::TILE;
        __m512  v[REGS];
        for (int j = 0; j < REGS; j++) {
            v[j] = _mm512_loadu_ps(y + 16 * j);
        }
        for (int r = 0; r < rows.n; r++) {
            K::add(rows.row[r] + i * tile_size, rows.scale[r], v);
        }
        for (int r = 0; r < next.n; r++) {
            for (int64_t l = i * n_lines / n_tiles; l < (i + 1) * n_lines / n_tiles; l++) {
                _mm_prefetch(next.row[r] + l * 64, _MM_HINT_T0);
            }
        }
        for (int j = 0; j < REGS; j++) {
            _mm512_storeu_ps(y + 16 * j, v[j]);
        }
    }
    return n_tiles * K::TILE;
}

template <typename K> int64_t dequantize_tiles(size_t tile_size, const char * row, int64_t n, float * dst) {
    constexpr int REGS = K::TILE / 16;

    const int64_t n_tiles = n / K::TILE;
    for (int64_t i = 0; i < n_tiles; i++) {
        __m512 v[REGS];
        for (int j = 0; j < REGS; j++) {
            v[j] = _mm512_setzero_ps();
        }
        K::add(row + i * tile_size, 1.0f, v);
        for (int j = 0; j < REGS; j++) {
            _mm512_storeu_ps(dst + i * K::TILE + 16 * j, v[j]);
        }
    }
    return n_tiles * K::TILE;
}

#    define PLM_AXPY_DISPATCH(type, fn, ...)                                             \
        switch (type) {                                                                  \
            case GGML_TYPE_Q4_0:                                                         \
                return fn<axpy_q4_0>(ggml_row_size(type, axpy_q4_0::TILE), __VA_ARGS__); \
            case GGML_TYPE_Q8_0:                                                         \
                return fn<axpy_q8_0>(ggml_row_size(type, axpy_q8_0::TILE), __VA_ARGS__); \
            case GGML_TYPE_Q4_K:                                                         \
                return fn<axpy_q4_K>(ggml_row_size(type, axpy_q4_K::TILE), __VA_ARGS__); \
            case GGML_TYPE_Q6_K:                                                         \
                return fn<axpy_q6_K>(ggml_row_size(type, axpy_q6_K::TILE), __VA_ARGS__); \
            case GGML_TYPE_F16:                                                          \
                return fn<axpy_f16>(ggml_row_size(type, axpy_f16::TILE), __VA_ARGS__);   \
            case GGML_TYPE_BF16:                                                         \
                return fn<axpy_bf16>(ggml_row_size(type, axpy_bf16::TILE), __VA_ARGS__); \
            case GGML_TYPE_F32:                                                          \
                return fn<axpy_f32>(ggml_row_size(type, axpy_f32::TILE), __VA_ARGS__);   \
            default:                                                                     \
                return 0;                                                                \
        }

inline int64_t axpy(ggml_type type, const axpy_rows & rows, const axpy_rows & next, int64_t n, float * acc) {
    PLM_AXPY_DISPATCH(type, axpy_tiles, rows, next, n, acc)
}

inline int64_t dequantize(ggml_type type, const char * row, int64_t n, float * dst) {
    PLM_AXPY_DISPATCH(type, dequantize_tiles, row, n, dst)
}

}  // namespace avx512
}  // namespace plm

#endif
