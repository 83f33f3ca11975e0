#pragma once

// Scaled sums of rows for AVX2 and 64-bit NEON: the kernels of sparse_axpy_avx512.h on 16 floats at a time.

#include "sparse_axpy.h"

#if !defined(PLM_AXPY_AVX512) && ((defined(__AVX2__) && defined(__FMA__)) || defined(__aarch64__))
#    define PLM_AXPY_SIMD

#    include "dense_unpack.h"
#    include "simd-mappings.h"

#    if defined(__AVX2__)
#        include <immintrin.h>
#    else
#        include <arm_neon.h>
#    endif

#    include <cstring>

namespace plm {
namespace simd {

#    if defined(__AVX2__)

using bytes = __m128i;

struct floats {
    __m256 v[2];
};

inline bytes load_bytes(const void * p) {
    return _mm_loadu_si128((const __m128i *) p);
}

inline bytes low_nibbles(bytes b) {
    return _mm_and_si128(b, _mm_set1_epi8(0x0F));
}

inline bytes high_nibbles(bytes b) {
    return low_nibbles(_mm_srli_epi16(b, 4));
}

// bits shift, shift + 1 of each byte, as bits 4, 5
template <int shift> inline bytes bits_54(bytes b) {
    const bytes moved = shift < 4 ? _mm_slli_epi16(b, shift < 4 ? 4 - shift : 0) : _mm_srli_epi16(b, shift & 3);
    return _mm_and_si128(moved, _mm_set1_epi8(0x30));
}

inline bytes join(bytes a, bytes b) {
    return _mm_or_si128(a, b);
}

inline bytes minus(bytes a, int8_t b) {
    return _mm_sub_epi8(a, _mm_set1_epi8(b));
}

inline floats load_floats(const float * p) {
    return {
        { _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) }
    };
}

inline void store_floats(float * p, floats x) {
    _mm256_storeu_ps(p, x.v[0]);
    _mm256_storeu_ps(p + 8, x.v[1]);
}

inline void add_scaled(floats & acc, floats x, float a) {
    acc.v[0] = _mm256_fmadd_ps(x.v[0], _mm256_set1_ps(a), acc.v[0]);
    acc.v[1] = _mm256_fmadd_ps(x.v[1], _mm256_set1_ps(a), acc.v[1]);
}

inline void add(floats & acc, float b) {
    acc.v[0] = _mm256_add_ps(acc.v[0], _mm256_set1_ps(b));
    acc.v[1] = _mm256_add_ps(acc.v[1], _mm256_set1_ps(b));
}

inline floats from_s8(bytes q) {
    return {
        { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
         _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(q, q))) }
    };
}

// q - 8 for q < 16
inline floats from_nibbles(bytes q) {
    return from_s8(minus(q, 8));
}

inline floats from_f16(const void * p) {
    const __m256i h = _mm256_loadu_si256((const __m256i *) p);
    return {
        { _mm256_cvtph_ps(_mm256_castsi256_si128(h)), _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)) }
    };
}

inline void prefetch(const char * p) {
    _mm_prefetch(p, _MM_HINT_T0);
}

#    else

using bytes = uint8x16_t;

struct floats {
    float32x4_t v[4];
};

inline bytes load_bytes(const void * p) {
    return vld1q_u8((const uint8_t *) p);
}

inline bytes low_nibbles(bytes b) {
    return vandq_u8(b, vdupq_n_u8(0x0F));
}

inline bytes high_nibbles(bytes b) {
    return vshrq_n_u8(b, 4);
}

template <int shift> inline bytes bits_54(bytes b) {
    const bytes moved = shift < 4 ? vshlq_n_u8(b, shift < 4 ? 4 - shift : 0) : vshrq_n_u8(b, shift == 6 ? 2 : 8);
    return vandq_u8(shift == 4 ? b : moved, vdupq_n_u8(0x30));
}

inline bytes join(bytes a, bytes b) {
    return vorrq_u8(a, b);
}

inline bytes minus(bytes a, int8_t b) {
    return vsubq_u8(a, vdupq_n_u8((uint8_t) b));
}

inline floats load_floats(const float * p) {
    return {
        { vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12) }
    };
}

inline void store_floats(float * p, floats x) {
    for (int i = 0; i < 4; i++) {
        vst1q_f32(p + 4 * i, x.v[i]);
    }
}

inline void add_scaled(floats & acc, floats x, float a) {
    for (int i = 0; i < 4; i++) {
        acc.v[i] = vfmaq_n_f32(acc.v[i], x.v[i], a);
    }
}

inline void add(floats & acc, float b) {
    for (int i = 0; i < 4; i++) {
        acc.v[i] = vaddq_f32(acc.v[i], vdupq_n_f32(b));
    }
}

inline floats from_s16(int16x8_t lo, int16x8_t hi) {
    return {
        { vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_high_s16(lo)),
         vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_high_s16(hi)) }
    };
}

inline floats from_s8(bytes q) {
    const int8x16_t s = vreinterpretq_s8_u8(q);
    return from_s16(vmovl_s8(vget_low_s8(s)), vmovl_high_s8(s));
}

inline floats from_f16(float16x8_t lo, float16x8_t hi) {
    return {
        { vcvt_f32_f16(vget_low_f16(lo)), vcvt_high_f32_f16(lo), vcvt_f32_f16(vget_low_f16(hi)), vcvt_high_f32_f16(hi) }
    };
}

inline floats from_f16(const void * p) {
    const uint16_t * h = (const uint16_t *) p;
    return from_f16(vreinterpretq_f16_u16(vld1q_u16(h)), vreinterpretq_f16_u16(vld1q_u16(h + 8)));
}

// q - 8 for q < 16. Every such number has an fp16 form whose low byte is zero, so that a table look-up and a zip
// with zeros make it: 12 instructions for 16 values where widening and converting integers takes 17.
inline floats from_nibbles(bytes q) {
    static const uint8_t high_bytes[16] = { 0xC8, 0xC7, 0xC6, 0xC5, 0xC4, 0xC2, 0xC0, 0xBC,
                                            0x00, 0x3C, 0x40, 0x42, 0x44, 0x45, 0x46, 0x47 };
    const bytes          high           = vqtbl1q_u8(vld1q_u8(high_bytes), q);
    const bytes          zero           = vdupq_n_u8(0);
    return from_f16(vreinterpretq_f16_u8(vzip1q_u8(zero, high)), vreinterpretq_f16_u8(vzip2q_u8(zero, high)));
}

inline void prefetch(const char * p) {
    __builtin_prefetch(p);
}

#    endif

// For each type: COLS columns make a part; add() adds part `i` of a row, scaled, to COLS / 16 accumulators.
// What is the same for a whole group of columns goes to bias[] and is added once for all rows.

struct axpy_q4_0 {
    static constexpr int  COLS     = 32;
    static constexpr bool HAS_BIAS = false;

    static void add(const char * row, int64_t i, float a, floats * acc, float *) {
        const block_q4_0 & w = ((const block_q4_0 *) row)[i];
        const bytes        q = load_bytes(w.qs);
        const float        d = a * GGML_CPU_FP16_TO_FP32(w.d);
        add_scaled(acc[0], from_nibbles(low_nibbles(q)), d);
        add_scaled(acc[1], from_nibbles(high_nibbles(q)), d);
    }
};

struct axpy_q8_0 {
    static constexpr int  COLS     = 32;
    static constexpr bool HAS_BIAS = false;

    static void add(const char * row, int64_t i, float a, floats * acc, float *) {
        const block_q8_0 & w = ((const block_q8_0 *) row)[i];
        const float        d = a * GGML_CPU_FP16_TO_FP32(w.d);
        add_scaled(acc[0], from_s8(load_bytes(w.qs)), d);
        add_scaled(acc[1], from_s8(load_bytes(w.qs + 16)), d);
    }
};

// d * sc * q - dmin * m = d * sc * (q - 8) + (8 * d * sc - dmin * m)
struct axpy_q4_K {
    static constexpr int  COLS     = 64;
    static constexpr bool HAS_BIAS = true;

    static void add(const char * row, int64_t i, float a, floats * acc, float * bias) {
        const block_q4_K & w = ((const block_q4_K *) row)[i / 4];
        const int          j = i % 4;
        uint8_t            sc[8];
        uint8_t            mn[8];
        unpack_scales_q4_K(w.scales, sc, mn);
        const float d    = a * GGML_CPU_FP16_TO_FP32(w.d);
        const float dmin = a * GGML_CPU_FP16_TO_FP32(w.dmin);
        const float d0   = d * sc[2 * j];
        const float d1   = d * sc[2 * j + 1];
        bias[0] += 8.0f * d0 - dmin * mn[2 * j];
        bias[1] += 8.0f * d1 - dmin * mn[2 * j + 1];
        for (int h = 0; h < 2; h++) {
            const bytes q = load_bytes(w.qs + 32 * j + 16 * h);
            add_scaled(acc[h], from_nibbles(low_nibbles(q)), d0);
            add_scaled(acc[2 + h], from_nibbles(high_nibbles(q)), d1);
        }
    }
};

struct axpy_q6_K {
    static constexpr int  COLS     = 128;
    static constexpr bool HAS_BIAS = false;

    static void add(const char * row, int64_t i, float a, floats * acc, float *) {
        const block_q6_K & w  = ((const block_q6_K *) row)[i / 2];
        const uint8_t *    ql = w.ql + i % 2 * 64;
        const uint8_t *    qh = w.qh + i % 2 * 32;
        const int8_t *     sc = w.scales + i % 2 * 8;
        const float        d  = a * GGML_CPU_FP16_TO_FP32(w.d);
        for (int h = 0; h < 2; h++) {
            const bytes l0 = load_bytes(ql + 16 * h);
            const bytes l1 = load_bytes(ql + 32 + 16 * h);
            const bytes hi = load_bytes(qh + 16 * h);
            add_scaled(acc[h], from_s8(minus(join(low_nibbles(l0), bits_54<0>(hi)), 32)), d * sc[h]);
            add_scaled(acc[2 + h], from_s8(minus(join(low_nibbles(l1), bits_54<2>(hi)), 32)), d * sc[2 + h]);
            add_scaled(acc[4 + h], from_s8(minus(join(high_nibbles(l0), bits_54<4>(hi)), 32)), d * sc[4 + h]);
            add_scaled(acc[6 + h], from_s8(minus(join(high_nibbles(l1), bits_54<6>(hi)), 32)), d * sc[6 + h]);
        }
    }
};

struct axpy_f16 {
    static constexpr int  COLS     = 32;
    static constexpr bool HAS_BIAS = false;

    static void add(const char * row, int64_t i, float a, floats * acc, float *) {
        add_scaled(acc[0], from_f16(row + i * 64), a);
        add_scaled(acc[1], from_f16(row + i * 64 + 32), a);
    }
};

struct axpy_f32 {
    static constexpr int  COLS     = 32;
    static constexpr bool HAS_BIAS = false;

    static void add(const char * row, int64_t i, float a, floats * acc, float *) {
        add_scaled(acc[0], load_floats((const float *) row + i * 32), a);
        add_scaled(acc[1], load_floats((const float *) row + i * 32 + 16), a);
    }
};

// returns how many columns are done: the whole parts
template <typename K>
int64_t axpy_parts(const axpy_rows & rows, const axpy_rows & next, size_t part_size, int64_t n, float * acc) {
    constexpr int N = K::COLS / 16;

    for (int64_t i = 0; i < n / K::COLS; i++) {
        float * y = acc + i * K::COLS;
        floats  v[N];
        float   bias[2] = {};
        for (int j = 0; j < N; j++) {
            v[j] = load_floats(y + 16 * j);
        }
        for (int r = 0; r < rows.n; r++) {
            K::add(rows.row[r], i, rows.scale[r], v, bias);
        }
        if (i * part_size / 64 != (i + 1) * part_size / 64) {
            for (int r = 0; r < next.n; r++) {
                prefetch(next.row[r] + i * part_size);
            }
        }
        for (int j = 0; j < N; j++) {
            if (K::HAS_BIAS) {
                add(v[j], bias[j * 2 / N]);
            }
            store_floats(y + 16 * j, v[j]);
        }
    }
    return n / K::COLS * K::COLS;
}

inline int64_t axpy(ggml_type type, const axpy_rows & rows, const axpy_rows & next, int64_t n, float * acc) {
    switch (type) {
        case GGML_TYPE_Q4_0:
            return axpy_parts<axpy_q4_0>(rows, next, sizeof(block_q4_0), n, acc);
        case GGML_TYPE_Q8_0:
            return axpy_parts<axpy_q8_0>(rows, next, sizeof(block_q8_0), n, acc);
        case GGML_TYPE_Q4_K:
            return axpy_parts<axpy_q4_K>(rows, next, sizeof(block_q4_K) / 4, n, acc);
        case GGML_TYPE_Q6_K:
            return axpy_parts<axpy_q6_K>(rows, next, sizeof(block_q6_K) / 2, n, acc);
        case GGML_TYPE_F16:
            return axpy_parts<axpy_f16>(rows, next, 64, n, acc);
        case GGML_TYPE_F32:
            return axpy_parts<axpy_f32>(rows, next, 128, n, acc);
        default:
            return 0;
    }
}

inline int64_t dequantize(ggml_type type, const char * row, int64_t n, float * dst) {
    axpy_rows one;
    one.row[0]   = row;
    one.scale[0] = 1.0f;
    one.n        = 1;
    memset(dst, 0, n * sizeof(float));
    return simd::axpy(type, one, axpy_rows(), n, dst);
}

}  // namespace simd
}  // namespace plm

#endif
