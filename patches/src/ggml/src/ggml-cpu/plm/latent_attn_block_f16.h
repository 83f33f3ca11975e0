#pragma once

// The block of latent_attn_block_f32.h in half precision, for ARM CPUs whose fp16 multiply-add has twice the
// lanes of the float one. Sums stay short: SEG products for a score, ROWS for a value, then they are added to
// floats. Queries and weights are scaled to a largest value of 1. Rows of halfs are read where they lie when a look
// at their squares shows that no sum can overflow and nothing that counts is denormal, as for every normal latent;
// other rows are copied and scaled by a power of two (exact).

#include "head_matvec.h"
#include "latent_attn_block_f32.h"
#include "latent_attn_simd.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#    define PLM_BLOCK_F16

#    include "simd-mappings.h"

#    define GGML_COMMON_DECL_C
#    include "ggml-common.h"

#    include <arm_neon.h>

namespace plm {

struct block_f16 {
    static constexpr int ROWS    = 64;
    static constexpr int SEG     = 32;  // products of a score that are summed in fp16
    static constexpr int QK_ROWS = 8;
    static constexpr int PV_COLS = 8;

    int64_t           first_part;  // dimensions of the first part of a row, and of the second; multiples of 32
    int64_t           second_part;
    int64_t           width;
    int64_t           value_pad;  // floats from column to column of o
    float16_t *       c;          // [ROWS][width], copied rows
    float16_t *       q;          // [groups][width][COLS]
    float *           q_scale;    // [groups][COLS]
    float *           row;        // one row in float
    float *           row_scale;  // [ROWS]
    const float16_t * rows;       // in c, or where they lie
    int64_t           row_stride;

    static size_t scratch_bytes(int64_t first_part, int64_t second_part, int64_t n_col_pad) {
        const int64_t width = first_part + second_part;
        return (ROWS + n_col_pad) * width * sizeof(float16_t) + (n_col_pad + width + ROWS) * sizeof(float);
    }

    block_f16(int64_t first_part, int64_t second_part, int64_t n_col_pad, void * scratch) :
        first_part(first_part),
        second_part(second_part),
        width(first_part + second_part),
        value_pad(GGML_PAD(first_part, 32)) {
        c          = (float16_t *) scratch;
        q          = c + ROWS * width;
        q_scale    = (float *) (q + n_col_pad * width);
        row        = q_scale + n_col_pad;
        row_scale  = row + width;
        rows       = c;
        row_stride = width;
        memset(scratch, 0, (char *) (row_scale + ROWS) - (char *) scratch);
    }

    //
    // queries
    //

    // columns of one group: dimension d of column i is at queries[d * stride + i]
    void set_queries(int64_t group, const float * queries, int64_t stride) {
        vf max[COL_VF] = {};
        for (int64_t d = 0; d < width; d++) {
            for (int j = 0; j < COL_VF; j++) {
                const vf x = vf_load(queries + d * stride + j * VW);
                max[j]     = vf_max(max[j], vf_max(x, -x));
            }
        }
        for (int j = 0; j < COL_VF; j++) {
            vf_store(q_scale + group * COLS + j * VW, max[j]);
        }
        for (int64_t d = 0; d < width; d++) {
            for (int j = 0; j < COL_VF; j++) {
                const vf    x    = vf_load(queries + d * stride + j * VW);
                const vf    unit = max[j] > vf_splat(1e-30f) ? x / max[j] : vf{};
                float16_t * to   = q + (group * width + d) * COLS + j * VW;
                vst1_f16(to, vcvt_f16_f32((float32x4_t) unit));
            }
        }
    }

    //
    // rows
    //

    void forget_scales() {}

    bool load_rows(ggml_type type, const char * const * rows, int n) {
        if (type == GGML_TYPE_F16 && n > 0 && use_in_place((const float16_t * const *) rows, n)) {
            return false;
        }
        use_copy();
        for (int r = 0; r < n; r++) {
            float16_t * to = c + r * width;
            switch (type) {
                case GGML_TYPE_F16:
                    row_scale[r] = load_halfs((const uint16_t *) rows[r], width, to);
                    break;
                case GGML_TYPE_Q8_0:
                    row_scale[r] = load_q8_0((const block_q8_0 *) rows[r], width, to);
                    break;
                default:
                    row_to_f32(type, rows[r], 0, width, row);
                    load_row(row, row + first_part, r);
            }
        }
        return false;
    }

    void use_copy() {
        rows       = c;
        row_stride = width;
    }

    bool use_in_place(const float16_t * const * from, int n) {
        const int64_t stride = n > 1 ? from[1] - from[0] : width;
        for (int r = 1; r < n; r++) {
            if (from[r] - from[r - 1] != stride) {
                return false;
            }
        }
        for (int r = 0; r < n; r += QK_ROWS) {
            if (!is_normal(from[r], stride, n - r < QK_ROWS ? n - r : QK_ROWS)) {
                return false;
            }
        }
        rows       = from[0];
        row_stride = stride;
        for (int r = 0; r < n; r++) {
            row_scale[r] = 1.0f;
        }
        return true;
    }

    // Whether no value of up to QK_ROWS rows is above 179 and one is above 1/128: the squares of a lane, a few hundred,
    // add up to something between 1/16 and 32000. Infinities and NaN fail too.
    bool is_normal(const float16_t * x, int64_t stride, int n) const {
        float16x8_t sum[4];
        unroll<4>([&](auto i) { sum[i] = vdupq_n_f16(0); });
        for (int r = 0; r < n; r++) {
            for (int64_t d = 0; d < width; d += 32) {
                unroll<4>([&](auto i) {
                    const float16x8_t v = vld1q_f16(x + r * stride + d + 8 * i);
                    sum[i]              = vfmaq_f16(sum[i], v, v);
                });
            }
        }
        const float16x8_t most = vmaxq_f16(vmaxq_f16(sum[0], sum[1]), vmaxq_f16(sum[2], sum[3]));
        const float       max  = (float) vmaxvq_f16(most);
        return max >= 1.0f / 16 && max <= 32000.0f;
    }

    bool load_floats(const float * first, int64_t first_stride, const float * second, int64_t second_stride, int n) {
        use_copy();
        for (int r = 0; r < n; r++) {
            load_row(first + r * first_stride, second + r * second_stride, r);
        }
        return false;
    }

    void load_row(const float * first, const float * second, int r) {
        const float first_max  = max_of(first, first_part);
        const float second_max = max_of(second, second_part);
        const float scale      = scale_of(first_max > second_max ? first_max : second_max);
        load_f32(first, first_part, scale, c + r * width);
        load_f32(second, second_part, scale, c + r * width + first_part);
        row_scale[r] = scale;
    }

    // the power of two that brings max to 0.5 .. 1
    static float scale_of(float max) {
        int exponent = 0;
        if (max > 1e-30f) {
            std::frexp(max, &exponent);
        }
        return std::ldexp(1.0f, exponent);
    }

    static float max_of(const float * x, int64_t n) {
        float32x4_t max = vdupq_n_f32(0.0f);
        for (int64_t d = 0; d < n; d += 4) {
            max = vmaxq_f32(max, vabsq_f32(vld1q_f32(x + d)));
        }
        return vmaxvq_f32(max);
    }

    static void load_f32(const float * x, int64_t n, float scale, float16_t * to) {
        const float factor = 1.0f / scale;
        for (int64_t d = 0; d < n; d += 8) {
            const float16x4_t low = vcvt_f16_f32(vmulq_n_f32(vld1q_f32(x + d), factor));
            vst1q_f16(to + d, vcvt_high_f16_f32(low, vmulq_n_f32(vld1q_f32(x + d + 4), factor)));
        }
    }

    static float load_halfs(const uint16_t * x, int64_t n, float16_t * to) {
        // without their sign, halfs order like integers
        const uint16x8_t magnitude = vdupq_n_u16(0x7fff);
        uint16x8_t       max       = vdupq_n_u16(0);
        for (int64_t d = 0; d < n; d += 8) {
            max = vmaxq_u16(max, vandq_u16(vld1q_u16(x + d), magnitude));
        }
        const float scale = n > 0 ? scale_of(GGML_CPU_FP16_TO_FP32(vmaxvq_u16(max))) : 1.0f;
        // in float where the factor leaves the range of halfs (rows of denormals)
        if (scale < 0x1p-14f) {
            for (int64_t d = 0; d < n; d += 4) {
                const float32x4_t v = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x + d)));
                vst1_f16(to + d, vcvt_f16_f32(vmulq_n_f32(v, 1.0f / scale)));
            }
            return scale;
        }
        const float16x8_t factor = vdupq_n_f16((float16_t) (1.0f / scale));
        for (int64_t d = 0; d < n; d += 8) {
            vst1q_f16(to + d, vmulq_f16(vreinterpretq_f16_u16(vld1q_u16(x + d)), factor));
        }
        return scale;
    }

    static float load_q8_0(const block_q8_0 * b, int64_t n, float16_t * to) {
        float max = 0.0f;
        for (int64_t i = 0; i < n / QK8_0; i++) {
            const float d = GGML_CPU_FP16_TO_FP32(b[i].d);
            max           = d > max ? d : max;
        }
        const float scale = scale_of(128.0f * max);
        for (int64_t i = 0; i < n / QK8_0; i++) {
            // the quants are exact in fp16, and as a fraction of 128 the product cannot overflow
            const float16x8_t d = vdupq_n_f16((float16_t) (GGML_CPU_FP16_TO_FP32(b[i].d) * 128.0f / scale));
            for (int j = 0; j < QK8_0; j += 8) {
                const float16x8_t v = vcvtq_n_f16_s16(vmovl_s8(vld1_s8(b[i].qs + j)), 7);
                vst1q_f16(to + i * QK8_0 + j, vmulq_f16(v, d));
            }
        }
        return scale;
    }

    void announce(const char * const * /* rows */, int /* n */, int64_t /* bytes */) {}

    //
    // scores
    //

    // s[row * s_stride + col]; rows past n, to a multiple of QK_ROWS, are written too and mean nothing
    void scores(int64_t group, int n, float * s, int64_t s_stride) const {
        for (int r = 0; r < n; r += QK_ROWS) {
            const float16_t * tile[QK_ROWS];
            for (int i = 0; i < QK_ROWS; i++) {
                tile[i] = rows + (r + i < n ? r + i : n - 1) * row_stride;
            }
            float * y = s + r * s_stride;
            for (int64_t d = 0; d < width; d += SEG) {
                score_tile(tile, d, d + SEG < width ? d + SEG : width, q + group * width * COLS, y, s_stride);
            }
            unroll<QK_ROWS>([&](auto i) {
                unroll<4>([&](auto j) {
                    const float32x4_t scale = vmulq_n_f32(vld1q_f32(q_scale + group * COLS + 4 * j), row_scale[r + i]);
                    vst1q_f32(y + i * s_stride + 4 * j, vmulq_f32(vld1q_f32(y + i * s_stride + 4 * j), scale));
                });
            });
        }
    }

    // the products of dimensions begin to end; the first ones begin the sums in s
    static void score_tile(const float16_t * const * rows,
                           int64_t                   begin,
                           int64_t                   end,
                           const float16_t *         qs,
                           float *                   s,
                           int64_t                   s_stride) {
        float16x8_t acc[QK_ROWS][2];
        unroll<QK_ROWS>([&](auto r) { acc[r][0] = acc[r][1] = vdupq_n_f16(0); });
        for (int64_t d = begin; d < end; d += 8) {
            float16x8_t v[QK_ROWS];
            unroll<QK_ROWS>([&](auto r) { v[r] = vld1q_f16(rows[r] + d); });
            unroll<8>([&](auto lane) {
                const float16x8_t q0 = vld1q_f16(qs + (d + lane) * COLS);
                const float16x8_t q1 = vld1q_f16(qs + (d + lane) * COLS + 8);
                unroll<QK_ROWS>([&](auto r) {
                    acc[r][0] = vfmaq_laneq_f16(acc[r][0], q0, v[r], decltype(lane)::value);
                    acc[r][1] = vfmaq_laneq_f16(acc[r][1], q1, v[r], decltype(lane)::value);
                });
            });
        }
        const auto sum = [&](auto r, auto j) {
            return j % 2 == 0 ? vcvt_f32_f16(vget_low_f16(acc[r][j / 2])) : vcvt_high_f32_f16(acc[r][j / 2]);
        };
        if (begin == 0) {
            unroll<QK_ROWS>(
                [&](auto r) { unroll<4>([&](auto j) { vst1q_f32(s + r * s_stride + 4 * j, sum(r, j)); }); });
        } else {
            unroll<QK_ROWS>([&](auto r) {
                unroll<4>([&](auto j) {
                    float * y = s + r * s_stride + 4 * j;
                    vst1q_f32(y, vaddq_f32(vld1q_f32(y), sum(r, j)));
                });
            });
        }
    }

    //
    // values
    //

    // o {COLS, value_pad}
    void accumulate(const float * w, int n, const float * corr, float * o) const {
        alignas(64) float16_t weights[ROWS][COLS];
        alignas(64) float     scale[COLS];
        pack_weights(w, n, weights, scale);
        for (int64_t d = 0; d < first_part; d += 16) {
            for (int col = 0; col < COLS; col += PV_COLS) {
                value_tile(rows + d, row_stride, n, &weights[0][col], scale + col, corr + col, o + col * value_pad + d,
                           value_pad);
            }
        }
    }

    void pack_weights(const float * w, int n, float16_t (*weights)[COLS], float * scale) const {
        for (int j = 0; j < COLS; j += 4) {
            float32x4_t max = vdupq_n_f32(1e-30f);
            for (int r = 0; r < n; r++) {
                max = vmaxq_f32(max, vmulq_n_f32(vld1q_f32(w + r * COLS + j), row_scale[r]));
            }
            vst1q_f32(scale + j, max);
            const float32x4_t factor = vdivq_f32(vdupq_n_f32(1.0f), max);
            for (int r = 0; r < n; r++) {
                const float32x4_t x = vmulq_n_f32(vld1q_f32(w + r * COLS + j), row_scale[r]);
                vst1_f16(&weights[r][j], vcvt_f16_f32(vmulq_f32(x, factor)));
            }
        }
    }

    static void value_tile(const float16_t * rows,
                           int64_t           stride,
                           int               n,
                           const float16_t * weights,
                           const float *     scale,
                           const float *     corr,
                           float *           o,
                           int64_t           o_stride) {
        float16x8_t acc[PV_COLS][2];
        unroll<PV_COLS>([&](auto i) { acc[i][0] = acc[i][1] = vdupq_n_f16(0); });
        const auto add = [&](int64_t r) {
            const float16x8_t w  = vld1q_f16(weights + r * COLS);
            const float16x8_t v0 = vld1q_f16(rows + r * stride);
            const float16x8_t v1 = vld1q_f16(rows + r * stride + 8);
            unroll<PV_COLS>([&](auto i) {
                acc[i][0] = vfmaq_laneq_f16(acc[i][0], v0, w, decltype(i)::value);
                acc[i][1] = vfmaq_laneq_f16(acc[i][1], v1, w, decltype(i)::value);
            });
        };
        int r = 0;
        for (; r + 4 <= n; r += 4) {
            unroll<4>([&](auto i) { add(r + i); });
        }
        for (; r < n; r++) {
            add(r);
        }
        const float32x4_t old_factor[2] = { vld1q_f32(corr), vld1q_f32(corr + 4) };
        const float32x4_t new_factor[2] = { vld1q_f32(scale), vld1q_f32(scale + 4) };
        unroll<PV_COLS>([&](auto i) {
            constexpr int lane = decltype(i)::value % 4;
            float *       y    = o + i * o_stride;
            float32x4_t   sum[4];
            unroll<4>([&](auto j) {
                const float16x8_t half = acc[i][j / 2];
                const float32x4_t x    = j % 2 == 0 ? vcvt_f32_f16(vget_low_f16(half)) : vcvt_high_f32_f16(half);
                const float32x4_t old  = vmulq_laneq_f32(vld1q_f32(y + 4 * j), old_factor[i / 4], lane);
                sum[j]                 = vfmaq_laneq_f32(old, x, new_factor[i / 4], lane);
            });
            unroll<4>([&](auto j) { vst1q_f32(y + 4 * j, sum[j]); });
        });
    }

    void finish(float * /* o */) const {}
};

}  // namespace plm
#endif
