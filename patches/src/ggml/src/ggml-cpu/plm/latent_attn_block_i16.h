#pragma once

// The block of latent_attn_block_f32.h in 16-bit fixed point, for CPUs whose int16 dot product (VPDPWSSD)
// does two multiply-adds per lane where a float FMA does one. Unlike bf16, which has the same speed, 16 bits
// keep what an f16 cache holds:
//
//   a row       every dimension (of q8_0 rows: every 32) scaled so that twice the largest value among the first
//               64 rows is 32767; the scale stays, and is raised when a later row does not fit
//   a query     times the scales of the rows; per column and segment of 64 dimensions, sum |q| <= 65000
//   weights     per column and block, scaled so that the sum is <= 65000
//
// 65000 * 32767 < 2^31, hence no int32 sum can overflow, whatever the data. The error is that of rounding
// the operands: about 2e-4 of a query, 4e-5 of a row and 3e-4 of a weight, which is what f16 resolves. A scale
// for each dimension keeps it there when a few dimensions are much larger than the others, as they are in
// trained models.

#include "head_matvec.h"
#include "latent_attn_block_f32.h"
#include "latent_attn_simd.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#    define PLM_BLOCK_I16

#    include "simd-mappings.h"

#    define GGML_COMMON_DECL_C
#    include "ggml-common.h"

#    include <immintrin.h>

namespace plm {

#    define PLM_NOINLINE __attribute__((noinline, flatten))

// acc += two int16 products a lane. Written as instructions because gcc 12 copies and spills the accumulators
// around the intrinsic, and does not fold the broadcast into it.
static inline __m512i dot_i16(__m512i acc, __m512i a, __m512i b) {
    asm("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}

static inline __m512i dot_i16(__m512i acc, __m512i a, const int32_t * broadcast) {
    asm("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(a), "m"(*broadcast));
    return acc;
}

struct block_i16 {
    static constexpr int ROWS      = 64;
    static constexpr int SEG       = 64;  // dimensions whose products are summed before the float scale
    static constexpr int QK_ROWS   = 16;
    static constexpr int PV_COLS   = 8;
    static constexpr int VALUE_MAX = 32767;
    static constexpr int SUM_MAX   = 65000;

    typedef int16_t segment[ROWS][SEG];          // the block's rows, one segment
    typedef int32_t query_pairs[SEG / 2][COLS];  // two int16 of neighbouring dimensions

    int64_t       first_part;   // dimensions of the first part of a row, and of the second; multiples of 32
    int64_t       second_part;
    int64_t       n_first;      // segments of the first part
    int64_t       n_seg;        // and of both
    int64_t       value_pad;    // floats from column to column of o
    segment *     c;            // [n_seg]
    query_pairs * q;            // [groups][n_seg]
    float *       q_scale;      // [groups][n_seg][COLS]
    float *       row;          // one row in float
    float *       scale;        // [n_seg][SEG] what 1 in `c` is worth
    float *       factor;       // its inverse
    float *       value_scale;  // of the first part, in the order of accumulate()
    uint16_t *    block_scale;  // [ROWS][n_seg * 2] the scales within q8_0 rows
    const char *  next[ROWS];   // the rows of the next block, to be fetched meanwhile
    int64_t       next_bytes;   // of a row
    bool          is_fresh;     // no row was loaded yet

    static int64_t segments(int64_t n) { return (n + SEG - 1) / SEG; }

    static size_t scratch_bytes(int64_t first_part, int64_t second_part, int64_t n_col_pad) {
        const int64_t n_seg = segments(first_part) + segments(second_part);
        const int64_t n_q   = n_col_pad / COLS * n_seg;
        return n_seg * sizeof(segment) + n_q * sizeof(query_pairs) + n_q * COLS * sizeof(float) +
               4 * n_seg * SEG * sizeof(float) + ROWS * padded_blocks(n_seg) * sizeof(uint16_t);
    }

    block_i16(int64_t first_part, int64_t second_part, int64_t n_col_pad, void * scratch) :
        first_part(first_part),
        second_part(second_part),
        n_first(segments(first_part)),
        n_seg(n_first + segments(second_part)),
        value_pad(GGML_PAD(first_part, 32)),
        next_bytes(0) {
        c           = (segment *) scratch;
        q           = (query_pairs *) (c + n_seg);
        q_scale     = (float *) (q + n_col_pad / COLS * n_seg);
        row         = q_scale + n_col_pad / COLS * n_seg * COLS;
        scale       = row + n_seg * SEG;
        factor      = scale + n_seg * SEG;
        value_scale = factor + n_seg * SEG;
        block_scale = (uint16_t *) (value_scale + n_seg * SEG);
        memset(scratch, 0, (char *) (block_scale + ROWS * padded_blocks(n_seg)) - (char *) scratch);
        announce(nullptr, 0, 0);
        forget_scales();
    }

    // blocks of a q8_0 row, to whole vectors
    static int64_t padded_blocks(int64_t n_seg) { return GGML_PAD(n_seg * SEG / QK8_0, 16); }

    // the next rows have nothing to do with those before
    void forget_scales() {
        is_fresh = true;
        memset(scale, 0, n_seg * SEG * sizeof(float));
    }

    // dimensions of segment i: the last one of a part may be short
    range dimensions(int64_t i) const {
        const int64_t begin = i < n_first ? i * SEG : first_part + (i - n_first) * SEG;
        const int64_t stop  = i < n_first ? first_part : first_part + second_part;
        return { begin, begin + SEG < stop ? begin + SEG : stop };
    }

    //
    // queries
    //

    // columns of one group: dimension d of column i is at queries[d * stride + i]; to be told again when
    // the scales of the rows have changed
    void set_queries(int64_t group, const float * queries, int64_t stride) {
        for (int64_t i = 0; i < n_seg; i++) {
            const range dims = dimensions(i);
            pack_queries(queries + dims.begin * stride, stride, dims.size(), scale + i * SEG, q[group * n_seg + i],
                         q_scale + (group * n_seg + i) * COLS);
        }
    }

    PLM_NOINLINE static void pack_queries(const float * queries,
                                          int64_t       stride,
                                          int64_t       n,
                                          const float * row_scale,
                                          query_pairs & pairs,
                                          float *       scale) {
        const auto query = [&](int64_t d) {
            return _mm512_mul_ps(_mm512_loadu_ps(queries + d * stride), _mm512_set1_ps(row_scale[d]));
        };
        __m512 sum = _mm512_setzero_ps();
        __m512 max = _mm512_setzero_ps();
        for (int64_t d = 0; d < n; d++) {
            const __m512 x = _mm512_abs_ps(query(d));
            sum            = _mm512_add_ps(sum, x);
            max            = _mm512_max_ps(max, x);
        }
        const __m512 factor = fixed_point(sum, max, scale);
        for (int64_t d = 0; d < n; d += 2) {
            _mm512_storeu_si512(pairs[d / 2], pair(query(d), query(d + 1), factor));
        }
    }

    // the factor that brings values with this sum and maximum into range, and its inverse
    static __m512 fixed_point(__m512 sum, __m512 max, float * inverse) {
        // keeps the factor finite for vectors of zeros and denormals
        const __m512 tiny  = _mm512_set1_ps(1e-30f);
        const __m512 limit = _mm512_max_ps(_mm512_max_ps(_mm512_mul_ps(sum, _mm512_set1_ps(1.0f / SUM_MAX)),
                                                         _mm512_mul_ps(max, _mm512_set1_ps(1.0f / VALUE_MAX))),
                                           tiny);
        _mm512_storeu_ps(inverse, limit);
        return _mm512_div_ps(_mm512_set1_ps(1.0f), limit);
    }

    // two int16 a lane
    static __m512i pair(__m512 even, __m512 odd, __m512 factor) {
        const __m512i lo = _mm512_cvtps_epi32(_mm512_mul_ps(even, factor));
        const __m512i hi = _mm512_cvtps_epi32(_mm512_mul_ps(odd, factor));
        return _mm512_mask_blend_epi16(0xaaaaaaaa, lo, _mm512_slli_epi32(hi, 16));
    }

    //
    // rows
    //

    // whether the scales have changed, so that the queries have to be set again
    bool load_rows(ggml_type type, const char * const * rows, int n) {
        const auto convert = [&] {
            switch (type) {
                case GGML_TYPE_F16:
                    return load_f16(rows, n);
                case GGML_TYPE_Q8_0:
                    return load_q8_0(rows, n);
                default:
                    bool fits = true;
                    for (int r = 0; r < n; r++) {
                        row_to_f32(type, rows[r], 0, first_part + second_part, row);
                        fits &= load_f32(row, 0, first_part, r);
                        fits &= load_f32(row + first_part, n_first, second_part, r);
                    }
                    return fits;
            }
        };
        if (!is_fresh && convert()) {
            return false;
        }
        __m512 * max = (__m512 *) value_scale;
        memset(max, 0, n_seg * SEG * sizeof(float));
        for (int r = 0; r < n; r++) {
            row_to_f32(type, rows[r], 0, first_part + second_part, row);
            gather_max(row, 0, first_part, max);
            gather_max(row + first_part, n_first, second_part, max);
        }
        if (type == GGML_TYPE_Q8_0) {
            share_max(max);
        }
        raise_scales(max);
        convert();
        return true;
    }

    // rows in float, the second part apart; whether the scales have changed
    bool load_floats(const float * first, int64_t first_stride, const float * second, int64_t second_stride, int n) {
        const auto convert = [&] {
            bool fits = true;
            for (int r = 0; r < n; r++) {
                fits &= load_f32(first + r * first_stride, 0, first_part, r);
                fits &= load_f32(second + r * second_stride, n_first, second_part, r);
            }
            return fits;
        };
        if (!is_fresh && convert()) {
            return false;
        }
        __m512 * max = (__m512 *) value_scale;
        memset(max, 0, n_seg * SEG * sizeof(float));
        for (int r = 0; r < n; r++) {
            gather_max(first + r * first_stride, 0, first_part, max);
            gather_max(second + r * second_stride, n_first, second_part, max);
        }
        raise_scales(max);
        convert();
        return true;
    }

    int16_t * place(int64_t first_seg, int r, int64_t d) const { return &c[first_seg + d / SEG][r][d % SEG]; }

    static void gather_max(const float * x, int64_t first_seg, int64_t n, __m512 * max) {
        for (int64_t d = 0; d < n; d += 16) {
            __m512 & m = max[(first_seg * SEG + d) / 16];
            m          = _mm512_max_ps(m, _mm512_abs_ps(_mm512_loadu_ps(x + d)));
        }
    }

    // the dimensions of a q8_0 block have one scale
    void share_max(__m512 * max) const {
        for (int64_t i = 0; i < n_seg * SEG / 16; i += 2) {
            max[i] = max[i + 1] = _mm512_set1_ps(_mm512_reduce_max_ps(_mm512_max_ps(max[i], max[i + 1])));
        }
    }

    // twice the largest value that was seen, where that does not fit
    void raise_scales(const __m512 * max) {
        // keeps the factor finite for dimensions of zeros, and anything that matters out of range of it
        const __m512 tiny = _mm512_set1_ps(1e-30f / VALUE_MAX);
        for (int64_t i = 0; i < n_seg * SEG / 16; i++) {
            const __m512 old = _mm512_loadu_ps(scale + i * 16);
            const __m512 one = _mm512_mul_ps(max[i], _mm512_set1_ps(1.0f / VALUE_MAX));
            const __m512 now =
                _mm512_mask_mov_ps(old, _mm512_cmp_ps_mask(one, old, _CMP_GT_OQ), _mm512_add_ps(one, one));
            const __m512 s = _mm512_max_ps(now, tiny);
            _mm512_storeu_ps(scale + i * 16, s);
            _mm512_storeu_ps(factor + i * 16, _mm512_div_ps(_mm512_set1_ps(1.0f), s));
        }
        // an unpack instruction takes the low, or the high, 4 of every 8 dimensions
        for (int64_t d = 0; d < value_pad; d++) {
            const int64_t i                                           = d % 32;
            value_scale[d - i + (i & 4) * 4 + (i >> 3) * 4 + (i & 3)] = scale[d];
        }
        is_fresh = false;
    }

    // 32 values as int16
    static __m512i round_i16(__m512 a, __m512 b, const float * factor) {
        const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        const __m512i lo    = _mm512_cvtps_epi32(_mm512_mul_ps(a, _mm512_loadu_ps(factor)));
        const __m512i hi    = _mm512_cvtps_epi32(_mm512_mul_ps(b, _mm512_loadu_ps(factor + 16)));
        return _mm512_permutexvar_epi64(order, _mm512_packs_epi32(lo, hi));
    }

    // whether none of these had to be cut off; a value of VALUE_MAX counts as cut off
    static bool fits(__m512i most) { return _mm512_cmpge_epu16_mask(most, _mm512_set1_epi16(VALUE_MAX)) == 0; }

    bool load_f32(const float * x, int64_t first_seg, int64_t n, int r) const {
        __m512i most = _mm512_setzero_si512();
        for (int64_t d = 0; d < n; d += 32) {
            const __m512i v =
                round_i16(_mm512_loadu_ps(x + d), _mm512_loadu_ps(x + d + 16), factor + first_seg * SEG + d);
            most = _mm512_max_epu16(most, _mm512_abs_epi16(v));
            _mm512_storeu_si512(place(first_seg, r, d), v);
        }
        return fits(most);
    }

    PLM_NOINLINE bool load_f16(const char * const * rows, int n) const {
        __m512i    most = _mm512_setzero_si512();
        const auto part = [&](const uint16_t * x, int64_t first_seg, int64_t n_dims, int r) {
            for (int64_t d = 0; d < n_dims; d += 32) {
                const __m512i v = round_i16(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) (x + d))),
                                            _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) (x + d + 16))),
                                            factor + first_seg * SEG + d);
                most            = _mm512_max_epu16(most, _mm512_abs_epi16(v));
                _mm512_storeu_si512(place(first_seg, r, d), v);
            }
        };
        for (int r = 0; r < n; r++) {
            part((const uint16_t *) rows[r], 0, first_part, r);
            part((const uint16_t *) rows[r] + first_part, n_first, second_part, r);
        }
        return fits(most);
    }

    // stays in integers: the block scales become 15-bit fractions. They are collected from all rows first, so
    // that no vector is loaded from what was just stored in pieces.
    PLM_NOINLINE bool load_q8_0(const char * const * rows, int n) const {
        const int64_t stride = padded_blocks(n_seg);
        __m512i       most   = _mm512_setzero_si512();
        const auto    scales = [&](const block_q8_0 * b, int64_t first_seg, int64_t n_dims, int r) {
            for (int64_t i = 0; i < n_dims / QK8_0; i++) {
                block_scale[r * stride + first_seg * SEG / QK8_0 + i] = b[i].d;
            }
        };
        for (int r = 0; r < n; r++) {
            scales((const block_q8_0 *) rows[r], 0, first_part, r);
            scales((const block_q8_0 *) rows[r] + first_part / QK8_0, n_first, second_part, r);
        }
        // 256 q * m >> 15 is q * d / scale
        const __m512i first_of_32 =
            _mm512_slli_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 5);
        for (int64_t i = 0; i < stride; i += 16) {
            const __mmask16 in   = i + 16 <= n_seg * SEG / QK8_0 ? 0xffff : (1 << (n_seg * SEG / QK8_0 - i)) - 1;
            const __m512    unit = _mm512_mul_ps(
                _mm512_set1_ps(128.0f),
                _mm512_mask_i32gather_ps(_mm512_setzero_ps(), in, first_of_32, factor + i * QK8_0, sizeof(float)));
            for (int r = 0; r < n; r++) {
                __m256i *     at = (__m256i *) (block_scale + r * stride + i);
                const __m512i m  = _mm512_cvtps_epi32(_mm512_mul_ps(unit, _mm512_cvtph_ps(_mm256_loadu_si256(at))));
                most             = _mm512_max_epi32(most, _mm512_abs_epi32(m));
                _mm256_storeu_si256(at, _mm512_cvtsepi32_epi16(m));
            }
        }
        const auto part = [&](const block_q8_0 * b, int64_t first_seg, int64_t n_dims, int r) {
            const uint16_t * m = block_scale + r * stride + first_seg * SEG / QK8_0;
            for (int64_t i = 0; i < n_dims / QK8_0; i++) {
                const __m512i q = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *) b[i].qs));
                _mm512_storeu_si512(place(first_seg, r, i * QK8_0),
                                    _mm512_mulhrs_epi16(_mm512_slli_epi16(q, 8), _mm512_set1_epi16((short) m[i])));
            }
        };
        for (int r = 0; r < n; r++) {
            part((const block_q8_0 *) rows[r], 0, first_part, r);
            part((const block_q8_0 *) rows[r] + first_part / QK8_0, n_first, second_part, r);
        }
        return _mm512_cmpge_epi32_mask(most, _mm512_set1_epi32(VALUE_MAX)) == 0;
    }

    //
    // scores
    //

    // the rows that will be loaded next; the places past n repeat the last
    void announce(const char * const * rows, int n, int64_t bytes) {
        for (int r = 0; r < ROWS; r++) {
            next[r] = n > 0 ? rows[r < n ? r : n - 1] : (const char *) c;
        }
        next_bytes = n > 0 ? bytes : 0;
    }

    // s[row * s_stride + col]; rows past n, to a multiple of QK_ROWS, are written too and mean nothing
    void scores(int64_t group, int n, float * s, int64_t s_stride) const {
        for (int r = 0; r < n; r += QK_ROWS) {
            for (int64_t i = 0; i < n_seg; i++) {
                score_tile((const int32_t *) c[i][r], q[group * n_seg + i], q_scale + (group * n_seg + i) * COLS,
                           s + r * s_stride, s_stride, i == 0, next + r, i * (next_bytes / n_seg));
            }
        }
    }

    // adds q_scale[col] * rows[row] . q[col] of one segment to s. On the way two
    // cache lines of each of the next block's rows are fetched: memory works while the multipliers do.
    PLM_NOINLINE static void score_tile(const int32_t *      rows,
                                        const query_pairs &  qs,
                                        const float *        q_scale,
                                        float *              s,
                                        int64_t              s_stride,
                                        bool                 is_first,
                                        const char * const * next,
                                        int64_t              next_offset) {
        static_assert(SEG / 2 == 2 * QK_ROWS, "one fetch a step");
        __m512i acc[QK_ROWS];
        unroll<QK_ROWS>([&](auto r) { acc[r] = _mm512_setzero_si512(); });
        for (int d = 0; d < SEG / 2; d++) {
            const __m512i qv = _mm512_loadu_si512(qs[d]);
            _mm_prefetch(next[d / 2] + next_offset + d % 2 * 64, _MM_HINT_T1);
            unroll<QK_ROWS>([&](auto r) { acc[r] = dot_i16(acc[r], qv, rows + r * SEG / 2 + d); });
        }
        const __m512 scale = _mm512_loadu_ps(q_scale);
        unroll<QK_ROWS>([&](auto r) {
            const __m512 old = is_first ? _mm512_setzero_ps() : _mm512_loadu_ps(s + r * s_stride);
            _mm512_storeu_ps(s + r * s_stride, _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r]), scale, old));
        });
    }

    //
    // values
    //

    // o {COLS, value_pad}, with the dimensions of every 32 in the order of the unpack instructions until finish()
    void accumulate(const float * w, int n, const float * corr, float * o) const {
        alignas(64) int32_t pairs[ROWS / 2][COLS];
        alignas(64) float   scale[COLS];
        pack_weights(w, n, pairs, scale);
        for (int64_t d = 0; d < value_pad; d += 32) {
            for (int col = 0; col < COLS; col += PV_COLS) {
                value_tile(&c[d / SEG][0][d % SEG], (n + 1) / 2, pairs[0] + col, value_scale + d, scale + col,
                           corr + col, o + col * value_pad + d, value_pad);
            }
        }
    }

    PLM_NOINLINE static void pack_weights(const float * w, int n, int32_t (*pairs)[COLS], float * scale) {
        __m512 sum = _mm512_setzero_ps();
        __m512 max = _mm512_setzero_ps();
        for (int r = 0; r < n; r++) {
            const __m512 x = _mm512_loadu_ps(w + r * COLS);
            sum            = _mm512_add_ps(sum, x);
            max            = _mm512_max_ps(max, x);
        }
        const __m512 factor = fixed_point(sum, max, scale);
        for (int r = 0; r < n; r += 2) {
            const __m512 odd = r + 1 < n ? _mm512_loadu_ps(w + (r + 1) * COLS) : _mm512_setzero_ps();
            _mm512_storeu_si512(pairs[r / 2], pair(_mm512_loadu_ps(w + r * COLS), odd, factor));
        }
    }

    // o[col][..32] = o * corr + scale * row_scale * sum over rows of weight * row
    PLM_NOINLINE static void value_tile(const int16_t * rows,
                                        int             n_pairs,
                                        const int32_t * weights,
                                        const float *   row_scale,
                                        const float *   scale,
                                        const float *   corr,
                                        float *         o,
                                        int64_t         o_stride) {
        __m512i acc[PV_COLS][2];
        unroll<PV_COLS>([&](auto i) { acc[i][0] = acc[i][1] = _mm512_setzero_si512(); });
        for (int r = 0; r < n_pairs; r++, rows += 2 * SEG, weights += COLS) {
            const __m512i a  = _mm512_loadu_si512(rows);
            const __m512i b  = _mm512_loadu_si512(rows + SEG);
            const __m512i lo = _mm512_unpacklo_epi16(a, b);
            const __m512i hi = _mm512_unpackhi_epi16(a, b);
            unroll<PV_COLS>([&](auto i) {
                const __m512i w = _mm512_set1_epi32(weights[i]);
                acc[i][0]       = dot_i16(acc[i][0], lo, w);
                acc[i][1]       = dot_i16(acc[i][1], hi, w);
            });
        }
        const __m512 unit[2] = { _mm512_loadu_ps(row_scale), _mm512_loadu_ps(row_scale + 16) };
        unroll<PV_COLS>([&](auto i) {
            const __m512 factor = _mm512_set1_ps(scale[i]);
            const __m512 shrink = _mm512_set1_ps(corr[i]);
            unroll<2>([&](auto j) {
                float *      y   = o + i * o_stride + 16 * j;
                const __m512 old = _mm512_mul_ps(_mm512_loadu_ps(y), shrink);
                const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[i][j]), unit[j]);
                _mm512_storeu_ps(y, _mm512_fmadd_ps(sum, factor, old));
            });
        });
    }

    // puts the dimensions of o back in order
    void finish(float * o) const {
        const __m512i first  = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
        const __m512i second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
        for (int64_t i = 0; i < COLS * value_pad; i += 32) {
            const __m512 a = _mm512_loadu_ps(o + i);
            const __m512 b = _mm512_loadu_ps(o + i + 16);
            _mm512_storeu_ps(o + i, _mm512_permutex2var_ps(a, first, b));
            _mm512_storeu_ps(o + i + 16, _mm512_permutex2var_ps(a, second, b));
        }
    }
};

}  // namespace plm
#endif
