#pragma once

// The vector type of the PLM attention kernels: compiler vectors of the widest float register that this
// translation unit may use, so that one source serves AVX-512, AVX2, NEON and everything else.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX__)
#    include <immintrin.h>
#elif defined(__aarch64__)
#    include <arm_neon.h>
#endif

namespace plm {

#if defined(__AVX512F__)
constexpr int VW = 16;
#elif defined(__AVX__)
constexpr int VW = 8;
#else
constexpr int VW = 4;
#endif

typedef float   vf __attribute__((vector_size(VW * sizeof(float))));
typedef int32_t vi __attribute__((vector_size(VW * sizeof(int32_t))));

static inline vf vf_load(const float * p) {
    vf v;
    memcpy(&v, p, sizeof(v));
    return v;
}

// VW small integers as floats (__builtin_convertvector takes this apart lane by lane in gcc 12)
static inline vf vf_from_i8(const int8_t * p) {
#if defined(__AVX512F__)
    return (vf) _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *) p)));
#elif defined(__AVX2__)
    return (vf) _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *) p)));
#elif defined(__aarch64__)
    uint32_t four;
    memcpy(&four, p, sizeof(four));
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four)));
    return (vf) vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
#else
    vf v;
    for (int i = 0; i < VW; i++) {
        v[i] = p[i];
    }
    return v;
#endif
}

static inline void vf_store(float * p, vf v) {
    memcpy(p, &v, sizeof(v));
}

static inline vf vf_splat(float x) {
    return x - vf{};  // x - 0 folds to a broadcast, x + 0 does not (-0)
}

static inline vf vf_max(vf a, vf b) {
    return a > b ? a : b;
}

static inline float vf_sum(vf v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512) v);
#elif defined(__AVX__)
    __m128 x = _mm_add_ps(_mm256_castps256_ps128((__m256) v), _mm256_extractf128_ps((__m256) v, 1));
    x        = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
#elif defined(__aarch64__)
    return vaddvq_f32((float32x4_t) v);
#else
    return (v[0] + v[1]) + (v[2] + v[3]);
#endif
}

// e^x for x <= 0, exactly 0 below -87 (where e^x leaves the normal range), within 2 ulp elsewhere
static inline vf vf_exp(vf x) {
    const vf lowest = vf_splat(-87.0f);
    const vf y      = vf_max(x, lowest);
    const vf magic  = vf_splat(0x1.8p23f);  // adding it rounds to an integer in the low mantissa bits
    const vf shift  = y * 0x1.715476p+0f + magic;
    const vf n      = shift - magic;
    const vf r      = y - n * 0x1.62e4p-1f - n * 0x1.7f7d1cp-20f;  // ln 2 in two parts
    vf       p      = vf_splat(1.0f / 720);
    p               = p * r + 1.0f / 120;
    p               = p * r + 1.0f / 24;
    p               = p * r + 1.0f / 6;
    p               = p * r + 0.5f;
    p               = p * r + 1.0f;
    p               = p * r + 1.0f;
    vi bits;
    memcpy(&bits, &shift, sizeof(bits));
    const vi exponent = (bits + 127) << 23;
    vf       power;
    memcpy(&power, &exponent, sizeof(power));
    return x < lowest ? vf{} : p * power;
}

// sum of a[i] * b[i]
static inline float dot_f32(const float * a, const float * b, int64_t n) {
    vf      sum[4] = {};
    int64_t i      = 0;
    for (; i + 4 * VW <= n; i += 4 * VW) {
        for (int k = 0; k < 4; k++) {
            sum[k] += vf_load(a + i + k * VW) * vf_load(b + i + k * VW);
        }
    }
    for (; i + VW <= n; i += VW) {
        sum[0] += vf_load(a + i) * vf_load(b + i);
    }
    float rest = 0.0f;
    for (; i < n; i++) {
        rest += a[i] * b[i];
    }
    return vf_sum((sum[0] + sum[1]) + (sum[2] + sum[3])) + rest;
}

// y[i] += a * x[i]
static inline void axpy_f32(float * y, float a, const float * x, int64_t n) {
    int64_t i = 0;
    for (; i + VW <= n; i += VW) {
        vf_store(y + i, vf_load(y + i) + a * vf_load(x + i));
    }
    for (; i < n; i++) {
        y[i] += a * x[i];
    }
}

// f(0), f(1) .. f(N - 1) with constant arguments: small arrays that are indexed only by them stay in registers,
// which a plain loop does not guarantee
template <int N, class body> __attribute__((always_inline)) inline void unroll(body && f) {
    if constexpr (N > 0) {
        unroll<N - 1>(f);
        f(std::integral_constant<int, N - 1>{});
    }
}

// dst[j * dst_stride + i] = src[i * src_stride + j] for i, j < 16
static inline void transpose_16x16(const float * src, int64_t src_stride, float * dst, int64_t dst_stride) {
#if defined(__AVX512F__)
    __m512 a[16];
    __m512 b[16];
    for (int i = 0; i < 16; i++) {
        a[i] = _mm512_loadu_ps(src + i * src_stride);
    }
    // pairs, then fours within every 128 bits; then the 128-bit lanes, in two steps
    for (int i = 0; i < 16; i += 2) {
        b[i]     = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        a[i]     = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        b[i]      = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88);
        b[i + 4]  = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd);
        b[i + 8]  = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_ps(dst + i * dst_stride, _mm512_shuffle_f32x4(b[i], b[i + 8], 0x88));
        _mm512_storeu_ps(dst + (i + 8) * dst_stride, _mm512_shuffle_f32x4(b[i], b[i + 8], 0xdd));
        _mm512_storeu_ps(dst + (i + 4) * dst_stride, _mm512_shuffle_f32x4(b[i + 4], b[i + 12], 0x88));
        _mm512_storeu_ps(dst + (i + 12) * dst_stride, _mm512_shuffle_f32x4(b[i + 4], b[i + 12], 0xdd));
    }
#else
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 16; j++) {
            dst[j * dst_stride + i] = src[i * src_stride + j];
        }
    }
#endif
}

// the same for any number of rows and columns
static inline void transpose(const float * src,
                             int64_t       src_stride,
                             int64_t       rows,
                             int64_t       cols,
                             float *       dst,
                             int64_t       dst_stride) {
    for (int64_t i = 0; i < rows; i += 16) {
        for (int64_t j = 0; j < cols; j += 16) {
            if (i + 16 <= rows && j + 16 <= cols) {
                transpose_16x16(src + i * src_stride + j, src_stride, dst + j * dst_stride + i, dst_stride);
                continue;
            }
            for (int64_t k = i; k < rows && k < i + 16; k++) {
                for (int64_t l = j; l < cols && l < j + 16; l++) {
                    dst[l * dst_stride + k] = src[k * src_stride + l];
                }
            }
        }
    }
}

// what thread ith of nth does of n units
struct range {
    int64_t begin;
    int64_t end;

    int64_t size() const { return end - begin; }
};

static inline range share(int64_t n, int ith, int nth) {
    return { n * ith / nth, n * (ith + 1) / nth };
}

}  // namespace plm
