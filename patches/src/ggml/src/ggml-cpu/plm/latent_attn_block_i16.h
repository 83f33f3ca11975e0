#pragma once

// The block of latent_attn_block_f32.h in 16-bit fixed point, for CPUs whose int16 dot product (VPDPWSSD)
// does two multiply-adds per lane where a float FMA does one. Unlike bf16, which has the same speed, 16 bits
// keep what an f16 cache holds:
//
//   a row       both parts each scaled so that their largest value is 32767
//   a query     per column and segment of 64 dimensions, scaled so that sum |q| <= 65000
//   weights     per column and block, times the row's scale, scaled so that the sum is <= 65000
//
// 65000 * 32767 < 2^31, hence no int32 sum can overflow, whatever the data. The error is that of rounding
// the operands: about 2e-4 of a query, 3e-5 of a row and 3e-4 of a weight, which is what f16 resolves.

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

    int64_t       first_part;    // dimensions of the first part of a row, and of the second; multiples of 32
    int64_t       second_part;
    int64_t       n_first;       // segments of the first part
    int64_t       n_seg;         // and of both
    int64_t       value_pad;     // floats from column to column of o
    segment *     c;             // [n_seg]
    query_pairs * q;             // [groups][n_seg]
    float *       q_scale;       // [groups][n_seg][COLS]
    float *       row;           // one row in float
    float *       first_scale;   // [ROWS]
    float *       second_scale;  // [ROWS]
    const char *  next[ROWS];    // the rows of the next block, to be fetched meanwhile
    int64_t       next_bytes;    // of a row

    static int64_t segments(int64_t n) { return (n + SEG - 1) / SEG; }

    static size_t scratch_bytes(int64_t first_part, int64_t second_part, int64_t n_col_pad) {
        const int64_t n_seg = segments(first_part) + segments(second_part);
        const int64_t n_q   = n_col_pad / COLS * n_seg;
        return n_seg * sizeof(segment) + n_q * sizeof(query_pairs) + n_q * COLS * sizeof(float) +
               n_seg * SEG * sizeof(float) + 2 * ROWS * sizeof(float);
    }

    block_i16(int64_t first_part, int64_t second_part, int64_t n_col_pad, void * scratch) :
        first_part(first_part),
        second_part(second_part),
        n_first(segments(first_part)),
        n_seg(n_first + segments(second_part)),
        value_pad(GGML_PAD(first_part, 32)),
        next_bytes(0) {
        c            = (segment *) scratch;
        q            = (query_pairs *) (c + n_seg);
        q_scale      = (float *) (q + n_col_pad / COLS * n_seg);
        row          = q_scale + n_col_pad / COLS * n_seg * COLS;
        first_scale  = row + n_seg * SEG;
        second_scale = first_scale + ROWS;
        memset(scratch, 0, (char *) (second_scale + ROWS) - (char *) scratch);
        announce(nullptr, 0, 0);
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

    // columns of one group: dimension d of column i is at queries[d * stride + i]
    void set_queries(int64_t group, const float * queries, int64_t stride) {
        for (int64_t i = 0; i < n_seg; i++) {
            pack_queries(queries, stride, dimensions(i), q[group * n_seg + i], q_scale + (group * n_seg + i) * COLS);
        }
    }

    PLM_NOINLINE static void pack_queries(const float * queries,
                                          int64_t       stride,
                                          range         dims,
                                          query_pairs & pairs,
                                          float *       scale) {
        __m512 sum = _mm512_setzero_ps();
        __m512 max = _mm512_setzero_ps();
        for (int64_t d = dims.begin; d < dims.end; d++) {
            const __m512 x = _mm512_abs_ps(_mm512_loadu_ps(queries + d * stride));
            sum            = _mm512_add_ps(sum, x);
            max            = _mm512_max_ps(max, x);
        }
        const __m512 factor = fixed_point(sum, max, scale);
        for (int64_t d = dims.begin; d < dims.end; d += 2) {
            const __m512 odd = d + 1 < dims.end ? _mm512_loadu_ps(queries + (d + 1) * stride) : _mm512_setzero_ps();
            _mm512_storeu_si512(pairs[(d - dims.begin) / 2], pair(_mm512_loadu_ps(queries + d * stride), odd, factor));
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

    void load_rows(ggml_type type, const char * const * rows, int n) {
        for (int r = 0; r < n; r++) {
            switch (type) {
                case GGML_TYPE_F16:
                    first_scale[r]  = load_f16((const uint16_t *) rows[r], first_part, 0, r);
                    second_scale[r] = load_f16((const uint16_t *) rows[r] + first_part, second_part, n_first, r);
                    break;
                case GGML_TYPE_Q8_0:
                    first_scale[r] = load_q8_0((const block_q8_0 *) rows[r], first_part, 0, r);
                    second_scale[r] =
                        load_q8_0((const block_q8_0 *) rows[r] + first_part / 32, second_part, n_first, r);
                    break;
                default:
                    row_to_f32(type, rows[r], 0, first_part + second_part, row);
                    load_row(row, row + first_part, r);
            }
        }
    }

    void load_row(const float * first, const float * second, int r) {
        first_scale[r]  = load_f32(first, first_part, 0, r);
        second_scale[r] = load_f32(second, second_part, n_first, r);
    }

    int16_t * place(int64_t first_seg, int r, int64_t d) const { return &c[first_seg + d / SEG][r][d % SEG]; }

    // of a part whose largest value is max; 0 if there is nothing but zeros
    static float scale_of(float max) { return max > 1e-30f ? max / VALUE_MAX : 0.0f; }

    static float inverse(float scale) { return scale > 0.0f ? 1.0f / scale : 0.0f; }

    // 32 values as int16
    static __m512i round_i16(__m512 a, __m512 b, __m512 factor) {
        const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        const __m512i lo    = _mm512_cvtps_epi32(_mm512_mul_ps(a, factor));
        const __m512i hi    = _mm512_cvtps_epi32(_mm512_mul_ps(b, factor));
        return _mm512_permutexvar_epi64(order, _mm512_packs_epi32(lo, hi));
    }

    float load_f32(const float * x, int64_t n, int64_t first_seg, int r) {
        __m512 max = _mm512_setzero_ps();
        for (int64_t d = 0; d < n; d += 16) {
            max = _mm512_max_ps(max, _mm512_abs_ps(_mm512_loadu_ps(x + d)));
        }
        const float  scale  = scale_of(_mm512_reduce_max_ps(max));
        const __m512 factor = _mm512_set1_ps(inverse(scale));
        for (int64_t d = 0; d < n; d += 32) {
            _mm512_storeu_si512(place(first_seg, r, d),
                                round_i16(_mm512_loadu_ps(x + d), _mm512_loadu_ps(x + d + 16), factor));
        }
        return scale;
    }

    PLM_NOINLINE float load_f16(const uint16_t * x, int64_t n, int64_t first_seg, int r) {
        // without their sign, halfs order like integers
        const __m512i magnitude = _mm512_set1_epi16(0x7fff);
        __m512i       max16     = _mm512_setzero_si512();
        for (int64_t d = 0; d < n; d += 32) {
            max16 = _mm512_max_epu16(max16, _mm512_and_si512(magnitude, _mm512_loadu_si512(x + d)));
        }
        const __m512 max    = _mm512_max_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(max16)),
                                            _mm512_cvtph_ps(_mm512_extracti64x4_epi64(max16, 1)));
        const float  scale  = scale_of(_mm512_reduce_max_ps(max));
        const __m512 factor = _mm512_set1_ps(inverse(scale));
        for (int64_t d = 0; d < n; d += 32) {
            _mm512_storeu_si512(place(first_seg, r, d),
                                round_i16(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) (x + d))),
                                          _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) (x + d + 16))), factor));
        }
        return scale;
    }

    // stays in integers: the block scales become 15-bit fractions of the largest one
    PLM_NOINLINE float load_q8_0(const block_q8_0 * b, int64_t n, int64_t first_seg, int r) {
        const int64_t n_blocks = n / QK8_0;
        float         max      = 0.0f;
        for (int64_t i = 0; i < n_blocks; i++) {
            const float d = GGML_CPU_FP16_TO_FP32(b[i].d);
            max           = d > max ? d : max;
        }
        const float fraction = max > 0.0f ? VALUE_MAX / max : 0.0f;
        for (int64_t i = 0; i < n_blocks; i++) {
            const int     m = (int) (GGML_CPU_FP16_TO_FP32(b[i].d) * fraction + 0.5f);
            const __m512i q = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *) b[i].qs));
            // (256 q * m + 2^14) >> 15
            _mm512_storeu_si512(place(first_seg, r, i * QK8_0),
                                _mm512_mulhrs_epi16(_mm512_slli_epi16(q, 8), _mm512_set1_epi16((short) m)));
        }
        return fraction > 0.0f ? 128.0f / fraction : 0.0f;
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
                           (i < n_first ? first_scale : second_scale) + r, s + r * s_stride, s_stride, i == 0, next + r,
                           i * (next_bytes / n_seg));
            }
        }
    }

    // adds row_scale[row] * q_scale[col] * rows[row] . q[col] of one segment to s. On the way two
    // cache lines of each of the next block's rows are fetched: memory works while the multipliers do.
    PLM_NOINLINE static void score_tile(const int32_t *      rows,
                                        const query_pairs &  qs,
                                        const float *        q_scale,
                                        const float *        row_scale,
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
            const __m512 x   = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[r]), _mm512_set1_ps(row_scale[r]));
            const __m512 old = is_first ? _mm512_setzero_ps() : _mm512_loadu_ps(s + r * s_stride);
            _mm512_storeu_ps(s + r * s_stride, _mm512_fmadd_ps(x, scale, old));
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
                value_tile(&c[d / SEG][0][d % SEG], (n + 1) / 2, pairs[0] + col, scale + col, corr + col,
                           o + col * value_pad + d, value_pad);
            }
        }
    }

    PLM_NOINLINE void pack_weights(const float * w, int n, int32_t (*pairs)[COLS], float * scale) const {
        __m512 sum = _mm512_setzero_ps();
        __m512 max = _mm512_setzero_ps();
        for (int r = 0; r < n; r++) {
            const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(w + r * COLS), _mm512_set1_ps(first_scale[r]));
            sum            = _mm512_add_ps(sum, x);
            max            = _mm512_max_ps(max, x);
        }
        const __m512 factor = fixed_point(sum, max, scale);
        for (int r = 0; r < n; r += 2) {
            const __m512 even = _mm512_mul_ps(_mm512_loadu_ps(w + r * COLS), _mm512_set1_ps(first_scale[r]));
            const __m512 odd =
                r + 1 < n ? _mm512_mul_ps(_mm512_loadu_ps(w + (r + 1) * COLS), _mm512_set1_ps(first_scale[r + 1])) :
                            _mm512_setzero_ps();
            _mm512_storeu_si512(pairs[r / 2], pair(even, odd, factor));
        }
    }

    // o[col][..32] = o * corr + scale * sum over rows of weight * row
    PLM_NOINLINE static void value_tile(const int16_t * rows,
                                        int             n_pairs,
                                        const int32_t * weights,
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
        unroll<PV_COLS>([&](auto i) {
            const __m512 factor = _mm512_set1_ps(scale[i]);
            const __m512 shrink = _mm512_set1_ps(corr[i]);
            unroll<2>([&](auto j) {
                float *      y   = o + i * o_stride + 16 * j;
                const __m512 old = _mm512_mul_ps(_mm512_loadu_ps(y), shrink);
                _mm512_storeu_ps(y, _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i][j]), factor, old));
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
