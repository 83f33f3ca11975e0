#pragma once

// Reading quantized blocks into AVX-512 registers, for the dense and the sparse kernels alike.

#include "dense_unpack.h"
#include "simd-mappings.h"

#include <immintrin.h>

#include <cstdint>

namespace plm {
namespace avx512 {

inline __m512i load4x16(const void * a, const void * b, const void * c, const void * d) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *) a));
    v         = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) b), 1);
    v         = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) c), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) d), 3);
}

inline __m512i load2x32(const void * a, const void * b) {
    const __m512i v = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *) a));
    return _mm512_inserti64x4(v, _mm256_loadu_si256((const __m256i *) b), 1);
}

// the scales of 4 blocks, each in 4 lanes; they lie in the first 64 of the 72 bytes
inline __m512 scales_q4_0(const block_q4_0 * w) {
    const __m512i spread = _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 27, 27, 27, 27, 18, 18, 18,
                                            18, 9, 9, 9, 9, 0, 0, 0, 0);
    const __m512i words  = _mm512_permutexvar_epi16(spread, _mm512_loadu_si512(w));
    return _mm512_cvtph_ps(_mm512_castsi512_si256(words));
}

// 128 unsigned 6-bit values in their natural order
inline void unpack_q6_K(const uint8_t * ql, const uint8_t * qh, __m512i u[2]) {
    const __m512i nibble = _mm512_set1_epi8(0x0F);
    const __m512i high   = _mm512_set1_epi8(0x30);
    const __m512i left   = _mm512_set_epi64(2, 2, 2, 2, 4, 4, 4, 4);
    const __m512i right  = _mm512_set_epi64(2, 2, 2, 2, 0, 0, 0, 0);
    const __m512i l      = _mm512_loadu_si512(ql);
    const __m512i h      = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) qh));
    // 0xEA: (a & b) | c
    u[0] = _mm512_ternarylogic_epi64(_mm512_sllv_epi64(h, left), high, _mm512_and_si512(l, nibble), 0xEA);
    u[1] = _mm512_ternarylogic_epi64(_mm512_srlv_epi64(h, right), high,
                                     _mm512_and_si512(_mm512_srli_epi16(l, 4), nibble), 0xEA);
}

}  // namespace avx512
}  // namespace plm
