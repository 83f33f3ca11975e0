#pragma once

// The block of latent_attn_block_f32.h in half precision, for ARM CPUs whose fp16 multiply-add has twice the
// lanes of the float one. Queries and weights are scaled to a largest value of 1. Rows of halfs are read where they lie
// unless they are too small (of what is denormal too little is left) or too large: a look at their squares tells, or,
// where the caller can go over them once more, a small sample and what the sums came to. Other rows are copied
// and scaled by a power of two (exact). Scores of q8_0 rows can be had from the rows themselves, in integers.

#include "head_matvec.h"
#include "latent_attn_block_f32.h"
#include "latent_attn_simd.h"
#include "latent_attn_softmax_f16.h"
#include "latent_attn_tile_f16.h"
#include "latent_attn_tile_q8_0.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#    define PLM_BLOCK_F16

#    include "simd-mappings.h"

#    define GGML_COMMON_DECL_C
#    include "ggml-common.h"

#    include <arm_neon.h>

namespace plm {

struct block_f16 {
    static constexpr int ROWS    = 128;
    static constexpr int QK_ROWS = score_tile_f16::ROWS;
    static constexpr int PV_COLS = value_tile_f16::COLS;

    int64_t           first_part;  // dimensions of the first part of a row, and of the second; multiples of 32
    int64_t           second_part;
    int64_t           width;
    int64_t           value_pad;            // floats from column to column of o
    float16_t *       c;                    // [ROWS][width], copied rows
    float16_t *       q;                    // [groups][width][COLS]
    float *           q_scale;              // [groups][COLS]
    float *           row;                  // one row in float
    float *           row_scale;            // [ROWS]
    const float16_t * rows;                 // in c, or where they lie
    int64_t           row_stride;
    bool              is_q8_0 = false;      // scores are made of the quants as they are in the cache
    const int8_t *    quants[ROWS];
    bool              is_trusting = false;  // rows are taken for small enough to be read where they lie
    float32x4_t       trouble     = {};     // not a number once a sum has overflowed

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
        memset(q, 0, (char *) (row_scale + ROWS) - (char *) q);
    }

    //
    // queries
    //

    // columns of one group: dimension d of column i is at queries[d * stride + i]
    void set_queries(int64_t group, const float * queries, int64_t stride) {
        float32x4x4_t max;
        unroll<4>([&](auto j) { max.val[j] = vdupq_n_f32(0.0f); });
        for (int64_t d = 0; d < width; d++) {
            const float32x4x4_t x = vld1q_f32_x4(queries + d * stride);
            unroll<4>([&](auto j) { max.val[j] = vmaxq_f32(max.val[j], vabsq_f32(x.val[j])); });
        }
#    if defined(PLM_TILE_Q8_0)
        if (is_q8_0) {
            set_int8_queries(group, queries, stride, max);
            return;
        }
#    endif
        vst1q_f32_x4(q_scale + group * COLS, max);
        const float32x4x4_t factor = inverse_of(1.0f, max);
        for (int64_t d = 0; d < width; d++) {
            store_halfs(q + (group * width + d) * COLS, vld1q_f32_x4(queries + d * stride), factor);
        }
    }

    // a / b, 0 where b is next to nothing
    static float32x4x4_t inverse_of(float a, float32x4x4_t b) {
        float32x4x4_t y;
        unroll<4>([&](auto j) {
            const uint32x4_t is_there = vcgtq_f32(b.val[j], vdupq_n_f32(1e-30f));
            y.val[j]                  = vbslq_f32(is_there, vdivq_f32(vdupq_n_f32(a), b.val[j]), vdupq_n_f32(0.0f));
        });
        return y;
    }

#    if defined(PLM_TILE_Q8_0)
    void set_int8_queries(int64_t group, const float * queries, int64_t stride, float32x4x4_t max) {
        const float32x4x4_t factor = inverse_of(QUERY_MOST, max);
        unroll<4>([&](auto j) { max.val[j] = vmulq_n_f32(max.val[j], 1.0f / QUERY_MOST); });
        vst1q_f32_x4(q_scale + group * COLS, max);
        for (int64_t i = 0; i < width / QK8_0; i++) {
            set_query_block(queries + i * QK8_0 * stride, stride, factor, int8_queries(group)[i]);
        }
    }

    query_block_q8_0 * int8_queries(int64_t group) const {
        static_assert(sizeof(query_block_q8_0) == QK8_0 * COLS * sizeof(float16_t), "it takes the place of halfs");
        return (query_block_q8_0 *) q + group * (width / QK8_0);
    }
#    endif

    static void store_halfs(float16_t * to, float32x4x4_t x, float32x4x4_t factor) {
        unroll<4>([&](auto j) { x.val[j] = vmulq_f32(x.val[j], factor.val[j]); });
        vst1q_f16(to, vcvt_high_f16_f32(vcvt_f16_f32(x.val[0]), x.val[1]));
        vst1q_f16(to + 8, vcvt_high_f16_f32(vcvt_f16_f32(x.val[2]), x.val[3]));
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
                    quants[r]    = ((const block_q8_0 *) rows[r])->qs;
                    row_scale[r] = load_q8_0((const block_q8_0 *) rows[r], is_q8_0 ? first_part : width, to);
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
            const bool will_do = is_trusting && is_large(from[r]);
            if (!will_do && !is_normal(from[r], stride, n - r < QK_ROWS ? n - r : QK_ROWS)) {
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

    // whether one of the first 32 values is above 1/128, by their squares too
    static bool is_large(const float16_t * x) {
        const float16x8x4_t v   = vld1q_f16_x4(x);
        float16x8_t         sum = vmulq_f16(v.val[0], v.val[0]);
        unroll<3>([&](auto i) { sum = vfmaq_f16(sum, v.val[i + 1], v.val[i + 1]); });
        return (float) vmaxvq_f16(sum) >= 1.0f / 16;
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
        if (!(max > 1e-30f && max < 1e30f)) {
            return 1.0f;
        }
        uint32_t bits;
        memcpy(&bits, &max, sizeof(bits));
        bits = (bits & 0x7f800000) + (1 << 23);
        memcpy(&max, &bits, sizeof(bits));
        return max;
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
        uint16x8_t max = vdupq_n_u16(0);
        for (int64_t i = 0; i < n / QK8_0; i++) {
            max = vmaxq_u16(max, vld1q_dup_u16(&b[i].d));
        }
        const float largest = GGML_CPU_FP16_TO_FP32(vgetq_lane_u16(max, 0));
        const float scale   = scale_of(128.0f * largest);
        // the quants are exact in fp16, and as a fraction of 128 the product cannot overflow
        if (128.0f / scale < 65504.0f) {
            const float16x4_t factor = vdup_n_f16((float16_t) (128.0f / scale));
            for (int64_t i = 0; i < n / QK8_0; i++, to += QK8_0) {
                store_block(b[i], vmul_f16(vld1_dup_f16((const float16_t *) &b[i].d), factor), to);
            }
        } else {
            for (int64_t i = 0; i < n / QK8_0; i++, to += QK8_0) {
                store_block(b[i], vdup_n_f16((float16_t) (GGML_CPU_FP16_TO_FP32(b[i].d) * 128.0f / scale)), to);
            }
        }
        return scale;
    }

    static void store_block(const block_q8_0 & b, float16x4_t d, float16_t * to) {
        const int8x16x2_t v = vld1q_s8_x2(b.qs);
        float16x8x4_t     y;
        unroll<2>([&](auto i) {
            const float16x8_t low  = vcvtq_n_f16_s16(vmovl_s8(vget_low_s8(v.val[i])), 7);
            const float16x8_t high = vcvtq_n_f16_s16(vmovl_high_s8(v.val[i]), 7);
            y.val[2 * i]           = vmulq_lane_f16(low, d, 0);
            y.val[2 * i + 1]       = vmulq_lane_f16(high, d, 0);
        });
        vst1q_f16_x4(to, y);
    }

    void announce(const char * const * /* rows */, int /* n */, int64_t /* bytes */) {}

    //
    // scores
    //

    // s[row * s_stride + col]; rows past n, to a multiple of QK_ROWS, are written too and mean nothing
    void scores(int64_t group, int n, float * s, int64_t s_stride) {
#    if defined(PLM_TILE_Q8_0)
        if (is_q8_0) {
            for (int r = 0; r < n; r += score_tile_q8_0::ROWS) {
                score_quants(group, r, n, s + r * s_stride, s_stride);
            }
            return;
        }
#    endif
        for (int r = 0; r < n; r += QK_ROWS) {
            score_rows(group, r, n, s + r * s_stride, s_stride);
        }
    }

    __attribute__((noinline)) void score_rows(int64_t group, int first, int n, float * s, int64_t s_stride) {
        score_tile_f16 tile;
        unroll<QK_ROWS>([&](auto i) { tile.row[i] = rows + (first + i < n ? first + i : n - 1) * row_stride; });
        tile.q = q + group * width * COLS;
        tile.run(width, n - first < QK_ROWS ? n - first : QK_ROWS, q_scale + group * COLS, row_scale + first, s,
                 s_stride, trouble);
    }

#    if defined(PLM_TILE_Q8_0)
    __attribute__((noinline)) void score_quants(int64_t group, int first, int n, float * s, int64_t s_stride) const {
        score_tile_q8_0 tile;
        unroll<score_tile_q8_0::ROWS>([&](auto i) { tile.row[i] = quants[first + i < n ? first + i : n - 1]; });
        tile.q = int8_queries(group);
        tile.run(width / QK8_0, q_scale + group * COLS, s, s_stride);
    }
#    endif

    //
    // values
    //

    // o {COLS, value_pad}
    void accumulate(const float * w, int n, const float * corr, float * o) const {
        alignas(64) float16_t weights[ROWS * COLS];
        alignas(64) float     scale[COLS];
        pack_weights(w, n, weights, scale);
        add_values(n, weights, corr, scale, o);
    }

    // o = o * old_factor + values times weights * new_factor
    __attribute__((noinline)) void add_values(int               n,
                                              const float16_t * weights,
                                              const float *     old_factor,
                                              const float *     new_factor,
                                              float *           o) const {
        for (int64_t d = 0; d < first_part; d += value_tile_f16::DIMS) {
            for (int col = 0; col < COLS; col += PV_COLS) {
                value_tile_f16 tile;
                tile.row       = rows + d;
                tile.row_bytes = row_stride * (int64_t) sizeof(float16_t);
                tile.weight    = weights + col * n;
                tile.run(n, old_factor + col, new_factor + col, o + col * value_pad + d, value_pad);
            }
        }
    }

    // {n, PV_COLS} twice, each column's largest 1
    void pack_weights(const float * w, int n, float16_t * weights, float * scale) const {
        for (int j = 0; j < COLS; j += 4) {
            float32x4_t max = vdupq_n_f32(1e-30f);
            for (int r = 0; r < n; r++) {
                max = vmaxq_f32(max, vmulq_n_f32(vld1q_f32(w + r * COLS + j), row_scale[r]));
            }
            vst1q_f32(scale + j, max);
            const float32x4_t factor = vdivq_f32(vdupq_n_f32(1.0f), max);
            float16_t *       to     = weights + j / PV_COLS * PV_COLS * n + j % PV_COLS;
            for (int r = 0; r < n; r++) {
                const float32x4_t x = vmulq_n_f32(vld1q_f32(w + r * COLS + j), row_scale[r]);
                vst1_f16(to + r * PV_COLS, vcvt_f16_f32(vmulq_f32(x, factor)));
            }
        }
    }

    // the same where a column's largest is 1 already
    static void pack_soft_weights(const float * w, int n, float16_t * weights) {
        for (int r = 0; r < n; r++) {
            const float32x4x4_t x = vld1q_f32_x4(w + r * COLS);
            vst1q_f16(weights + r * PV_COLS, vcvt_high_f16_f32(vcvt_f16_f32(x.val[0]), x.val[1]));
            vst1q_f16(weights + (n + r) * PV_COLS, vcvt_high_f16_f32(vcvt_f16_f32(x.val[2]), x.val[3]));
        }
    }

    // running softmax and values in one: `state` is of the group of columns whose values are in o
    void add_block(float * s, int n, const column_state & state, float * o) const {
        alignas(64) float16_t weights[ROWS * COLS];
        alignas(64) float     old_factor[COLS];
        alignas(64) float     new_factor[COLS];
        soften_f16(state, s, n, old_factor, new_factor);
        if (rows != c) {
            pack_soft_weights(s, n, weights);
        } else {
            alignas(64) float scale[COLS];
            pack_weights(s, n, weights, scale);
            for (int j = 0; j < COLS; j += VW) {
                vf_store(new_factor + j, vf_load(new_factor + j) * vf_load(scale + j));
            }
        }
        add_values(n, weights, old_factor, new_factor, o);
    }

    // what a column adds up to tells of an overflow on the way
    void finish(const float * o) {
        for (int64_t d = 0; d < COLS * value_pad; d += 16) {
            const float32x4x4_t x = vld1q_f32_x4(o + d);
            unroll<4>([&](auto j) { trouble = vfmaq_n_f32(trouble, x.val[j], 0.0f); });
        }
    }

    // what all rows are going to be, before queries are set
    void expect(ggml_type type) {
#    if defined(PLM_TILE_Q8_0)
        is_q8_0 = type == GGML_TYPE_Q8_0;
#    else
        GGML_UNUSED(type);
#    endif
    }

    void trust(bool yes) {
        is_trusting = yes;
        trouble     = vdupq_n_f32(0.0f);
    }

    bool has_overflowed() const { return std::isnan(vaddvq_f32(trouble)); }
};

}  // namespace plm
#endif
