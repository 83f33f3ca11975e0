#pragma once

// Scores of q8_0 rows where they lie, in integers: the queries are 16-bit fixed point in two bytes, 256 hi + lo, and an
// SDOT for each of them takes 16 products. So many products an instruction has fp16 too, but here nothing is rounded
// before the block's scale comes in. Sums are v16 to v31, four rows of 16 columns.

#include "latent_attn_simd.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#    define PLM_TILE_Q8_0

#    define GGML_COMMON_DECL_C
#    include "ggml-common.h"

#    include <arm_neon.h>

namespace plm {

// 16 queries, scale[col] * (256 hi + lo)
struct query_block_q8_0 {
    int8_t hi[QK8_0 / 4][16][4];
    int8_t lo[QK8_0 / 4][16][4];
};

// the low bytes of four vectors, put together lane by lane
static inline int32x4_t low_bytes(const int32x4_t * v) {
    return vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(v[0], v[1], 8), v[2], 16), v[3], 24);
}

// dimension d of column i is x[d * stride + i]; times its factor it is at most QUERY_MOST
constexpr float QUERY_MOST = 127 * 256;

static inline void set_query_block(const float * x, int64_t stride, float32x4x4_t factor, query_block_q8_0 & y) {
    for (int d = 0; d < QK8_0 / 4; d++, x += 4 * stride) {
        unroll<4>([&](auto j) {
            int32x4_t whole[4];  // its low byte is lo
            int32x4_t hi[4];
            unroll<4>([&](auto i) {
                whole[i] = vcvtnq_s32_f32(vmulq_f32(vld1q_f32(x + i * stride + 4 * j), factor.val[j]));
                hi[i]    = vrshrq_n_s32(whole[i], 8);
            });
            vst1q_s8(y.hi[d][4 * j], vreinterpretq_s8_s32(low_bytes(hi)));
            vst1q_s8(y.lo[d][4 * j], vreinterpretq_s8_s32(low_bytes(whole)));
        });
    }
}

// clang-format off

#    define PLM_Q8_DOT(s, x, row, lane) "sdot v" #s ".4s, v" #x ".16b, v" #row ".4b[" #lane "]\n"

#    define PLM_Q8_ROW(s, t, u, v, a, b, c, d, row, lane)                                          \
        PLM_Q8_DOT(s, a, row, lane) PLM_Q8_DOT(t, b, row, lane)                                    \
        PLM_Q8_DOT(u, c, row, lane) PLM_Q8_DOT(v, d, row, lane)

// four dimensions; r0 to r3 hold them for the four rows
#    define PLM_Q8_FOUR(a, b, c, d, r0, r1, r2, r3, lane)                                          \
        "ld1 {v" #a ".16b, v" #b ".16b, v" #c ".16b, v" #d ".16b}, [%[q]], #64\n"                  \
        PLM_Q8_ROW(16, 17, 18, 19, a, b, c, d, r0, lane) PLM_Q8_ROW(20, 21, 22, 23, a, b, c, d, r1, lane) \
        PLM_Q8_ROW(24, 25, 26, 27, a, b, c, d, r2, lane) PLM_Q8_ROW(28, 29, 30, 31, a, b, c, d, r3, lane)

#    define PLM_Q8_SIXTEEN(r0, r1, r2, r3)                                                         \
        PLM_Q8_FOUR(8, 9, 10, 11, r0, r1, r2, r3, 0) PLM_Q8_FOUR(12, 13, 14, 15, r0, r1, r2, r3, 1) \
        PLM_Q8_FOUR(8, 9, 10, 11, r0, r1, r2, r3, 2) PLM_Q8_FOUR(12, 13, 14, 15, r0, r1, r2, r3, 3)

#    define PLM_Q8_BLOCK PLM_Q8_SIXTEEN(0, 2, 4, 6) PLM_Q8_SIXTEEN(1, 3, 5, 7)

#    define PLM_Q8_EACH(what)                                                                      \
        what(16) what(17) what(18) what(19) what(20) what(21) what(22) what(23)                    \
        what(24) what(25) what(26) what(27) what(28) what(29) what(30) what(31)
#    define PLM_Q8_ZERO(s)  "movi v" #s ".4s, #0\n"
#    define PLM_Q8_SHIFT(s) "shl v" #s ".4s, v" #s ".4s, #8\n"
#    define PLM_Q8_FLOAT(s) "scvtf v" #s ".4s, v" #s ".4s\n"

// times the scale of the row's block, which the row's pointer has just passed
#    define PLM_Q8_ADD(s, t, u, v, row)                                                            \
        "ldur h0, [%[" row "], #-36]\n fcvt s0, h0\n"                                              \
        "ld1 {v8.4s, v9.4s, v10.4s, v11.4s}, [%[to]]\n"                                            \
        "fmla v8.4s, v" #s ".4s, v0.s[0]\n fmla v9.4s, v" #t ".4s, v0.s[0]\n"                      \
        "fmla v10.4s, v" #u ".4s, v0.s[0]\n fmla v11.4s, v" #v ".4s, v0.s[0]\n"                    \
        "st1 {v8.4s, v9.4s, v10.4s, v11.4s}, [%[to]], #64\n"

// clang-format on

// 4 rows with 16 columns
struct score_tile_q8_0 {
    static constexpr int ROWS = 4;
    static constexpr int COLS = 16;

    const int8_t *           row[ROWS];  // the first block's quants
    const query_block_q8_0 * q;
    alignas(64) float sums[ROWS][COLS];

    // sums of all blocks, not yet scaled as the columns are
    __attribute__((always_inline)) void add_up(int64_t n_blocks) {
        memset(sums, 0, sizeof(sums));
        float *       to   = sums[0];
        const int64_t step = sizeof(block_q8_0);
        static_assert(sizeof(block_q8_0) == 34, "the scale is 36 bytes before the next block's quants");
        // clang-format off
        asm volatile("1:\n"
                     "ld1 {v0.16b, v1.16b}, [%[r0]], %[step]\n ld1 {v2.16b, v3.16b}, [%[r1]], %[step]\n"
                     "ld1 {v4.16b, v5.16b}, [%[r2]], %[step]\n ld1 {v6.16b, v7.16b}, [%[r3]], %[step]\n"
                     PLM_Q8_EACH(PLM_Q8_ZERO) PLM_Q8_BLOCK
                     PLM_Q8_EACH(PLM_Q8_SHIFT) PLM_Q8_BLOCK
                     PLM_Q8_EACH(PLM_Q8_FLOAT)
                     PLM_Q8_ADD(16, 17, 18, 19, "r0") PLM_Q8_ADD(20, 21, 22, 23, "r1")
                     PLM_Q8_ADD(24, 25, 26, 27, "r2") PLM_Q8_ADD(28, 29, 30, 31, "r3")
                     "sub %[to], %[to], #256\n"
                     "subs %[n], %[n], #1\n b.gt 1b\n"
                     : [r0] "+r"(row[0]), [r1] "+r"(row[1]), [r2] "+r"(row[2]), [r3] "+r"(row[3]), [q] "+r"(q),
                       [n] "+r"(n_blocks), [to] "+r"(to)
                     : [step] "r"(step)
                     : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",
                       "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28",
                       "v29", "v30", "v31", "cc", "memory");
        // clang-format on
    }

    // s[row * s_stride + col] of all blocks, times scale[col]
    void run(int64_t n_blocks, const float * scale, float * s, int64_t s_stride) {
        add_up(n_blocks);
        const float32x4x4_t factor = vld1q_f32_x4(scale);
        for (int r = 0; r < ROWS; r++) {
            float32x4x4_t x = vld1q_f32_x4(sums[r]);
            unroll<4>([&](auto j) { x.val[j] = vmulq_f32(x.val[j], factor.val[j]); });
            vst1q_f32_x4(s + r * s_stride, x);
        }
    }
};

#    undef PLM_Q8_DOT
#    undef PLM_Q8_ROW
#    undef PLM_Q8_FOUR
#    undef PLM_Q8_SIXTEEN
#    undef PLM_Q8_BLOCK
#    undef PLM_Q8_EACH
#    undef PLM_Q8_ZERO
#    undef PLM_Q8_SHIFT
#    undef PLM_Q8_FLOAT
#    undef PLM_Q8_ADD

}  // namespace plm
#endif
