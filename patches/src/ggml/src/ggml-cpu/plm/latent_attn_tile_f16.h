#pragma once

// The two register tiles of latent_attn_block_f16.h. Sums of halfs round at every step, and the error grows with their
// length; so a few products are summed in a chain, a few chains in a sum of halfs, and these in floats. Chains of 24 in
// sums of 144 products are off by as much as chains of 32 that go to float at once, for half the way to float.
//
// A tile is 16 registers of sums, v16 to v31. The loops over them are assembly: compilers go through one row after the
// other and spill what the rows share.

#include "latent_attn_simd.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)

#    include <arm_neon.h>

namespace plm {

// clang-format off

// two registers a, b times one half of a third, into two sums
#    define PLM_PAIR(op, s, t, a, b, c, lane)                              \
        op " v" #s ".8h, v" #a ".8h, v" #c ".h[" #lane "]\n"               \
        op " v" #t ".8h, v" #b ".8h, v" #c ".h[" #lane "]\n"

// one dimension of 16 queries (a, b) with 8 rows (v0 to v7)
#    define PLM_SCORE_DIM(op, a, b, lane)                                                       \
        PLM_PAIR(op, 16, 17, a, b, 0, lane) PLM_PAIR(op, 18, 19, a, b, 1, lane)                 \
        PLM_PAIR(op, 20, 21, a, b, 2, lane) PLM_PAIR(op, 22, 23, a, b, 3, lane)                 \
        PLM_PAIR(op, 24, 25, a, b, 4, lane) PLM_PAIR(op, 26, 27, a, b, 5, lane)                 \
        PLM_PAIR(op, 28, 29, a, b, 6, lane) PLM_PAIR(op, 30, 31, a, b, 7, lane)

// 8 dimensions, of which the first multiplies or multiplies and adds
#    define PLM_SCORE_STEP(op)                                                                  \
        "ldr q0, [%[r0]], #16\n ldr q1, [%[r1]], #16\n ldr q2, [%[r2]], #16\n"                  \
        "ldr q3, [%[r3]], #16\n ldr q4, [%[r4]], #16\n ldr q5, [%[r5]], #16\n"                  \
        "ldr q6, [%[r6]], #16\n ldr q7, [%[r7]], #16\n"                                         \
        "ld1 {v8.8h, v9.8h, v10.8h, v11.8h}, [%[q]], #64\n"                                     \
        PLM_SCORE_DIM(op, 8, 9, 0)                                                              \
        "ld1 {v12.8h, v13.8h, v14.8h, v15.8h}, [%[q]], #64\n"                                   \
        PLM_SCORE_DIM("fmla", 10, 11, 1) PLM_SCORE_DIM("fmla", 12, 13, 2)                       \
        "ld1 {v8.8h, v9.8h, v10.8h, v11.8h}, [%[q]], #64\n"                                     \
        PLM_SCORE_DIM("fmla", 14, 15, 3) PLM_SCORE_DIM("fmla", 8, 9, 4)                         \
        "ld1 {v12.8h, v13.8h, v14.8h, v15.8h}, [%[q]], #64\n"                                   \
        PLM_SCORE_DIM("fmla", 10, 11, 5) PLM_SCORE_DIM("fmla", 12, 13, 6)                       \
        PLM_SCORE_DIM("fmla", 14, 15, 7)

// one row of 16 dimensions (v4, v5) with the weights of 8 columns (w)
#    define PLM_VALUE_ROW(op, w)                                                                \
        "ld1 {v4.8h, v5.8h}, [%[row]], %[stride]\n"                                             \
        PLM_PAIR(op, 16, 17, 4, 5, w, 0) PLM_PAIR(op, 18, 19, 4, 5, w, 1)                       \
        PLM_PAIR(op, 20, 21, 4, 5, w, 2) PLM_PAIR(op, 22, 23, 4, 5, w, 3)                       \
        PLM_PAIR(op, 24, 25, 4, 5, w, 4) PLM_PAIR(op, 26, 27, 4, 5, w, 5)                       \
        PLM_PAIR(op, 28, 29, 4, 5, w, 6) PLM_PAIR(op, 30, 31, 4, 5, w, 7)

#    define PLM_VALUE_ROWS(op)                                                                  \
        "ld1 {v0.8h, v1.8h, v2.8h, v3.8h}, [%[w]], #64\n"                                       \
        PLM_VALUE_ROW(op, 0) PLM_VALUE_ROW("fmla", 1) PLM_VALUE_ROW("fmla", 2) PLM_VALUE_ROW("fmla", 3)

// the sums of a chain are stored, or added to those stored before
#    define PLM_ADD_FOUR(s, t, u, v, to)                                                        \
        "ld1 {v0.8h, v1.8h, v2.8h, v3.8h}, [" to "]\n"                                          \
        "fadd v" #s ".8h, v" #s ".8h, v0.8h\n fadd v" #t ".8h, v" #t ".8h, v1.8h\n"             \
        "fadd v" #u ".8h, v" #u ".8h, v2.8h\n fadd v" #v ".8h, v" #v ".8h, v3.8h\n"             \
        PLM_STORE_FOUR(s, t, u, v, to)
#    define PLM_STORE_FOUR(s, t, u, v, to)                                                      \
        "st1 {v" #s ".8h, v" #t ".8h, v" #u ".8h, v" #v ".8h}, [" to "], #64\n"
#    define PLM_EACH_FOUR(what, to)                                                             \
        what(16, 17, 18, 19, to) what(20, 21, 22, 23, to) what(24, 25, 26, 27, to) what(28, 29, 30, 31, to)

#    define PLM_ALL_VECTORS                                                                     \
        "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", \
        "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31"

// clang-format on

// 16 sums of halfs as floats
static inline float32x4x4_t sums_of(const float16_t * x) {
    const float16x8_t a = vld1q_f16(x);
    const float16x8_t b = vld1q_f16(x + 8);
    return {
        { vcvt_f32_f16(vget_low_f16(a)), vcvt_high_f32_f16(a), vcvt_f32_f16(vget_low_f16(b)), vcvt_high_f32_f16(b) }
    };
}

// 8 rows with 16 columns
struct score_tile_f16 {
    static constexpr int ROWS  = 8;
    static constexpr int COLS  = 16;
    static constexpr int STEP  = 8;
    static constexpr int CHAIN = 24;
    static constexpr int SUM   = 144;

    const float16_t * row[ROWS];
    const float16_t * q;  // [width][COLS]
    alignas(64) float16_t sums[ROWS * COLS];

    // clang-format off
#    define PLM_SCORE_OPERANDS(count)                                                                   \
        [r0] "+r"(row[0]), [r1] "+r"(row[1]), [r2] "+r"(row[2]), [r3] "+r"(row[3]), [r4] "+r"(row[4]),  \
        [r5] "+r"(row[5]), [r6] "+r"(row[6]), [r7] "+r"(row[7]), [q] "+r"(q), [n] "+r"(count),          \
        [to] "+r"(to)                                                                                   \
        : : PLM_ALL_VECTORS, "cc", "memory"

    // the next SUM dimensions
    __attribute__((always_inline)) void add_up_whole() {
        static_assert(CHAIN == 3 * STEP, "three steps are spelled out");
        float16_t * to   = sums;
        int64_t     more = SUM / CHAIN - 1;
        asm volatile(PLM_SCORE_STEP("fmul") PLM_SCORE_STEP("fmla") PLM_SCORE_STEP("fmla")
                     PLM_EACH_FOUR(PLM_STORE_FOUR, "%[to]")
                     "1:\n sub %[to], %[to], #256\n"
                     PLM_SCORE_STEP("fmul") PLM_SCORE_STEP("fmla") PLM_SCORE_STEP("fmla")
                     PLM_EACH_FOUR(PLM_ADD_FOUR, "%[to]")
                     "subs %[n], %[n], #1\n b.gt 1b\n"
                     : PLM_SCORE_OPERANDS(more));
    }

    template <bool is_first> __attribute__((always_inline)) void chain(int64_t steps) {
        float16_t * to = sums;
#    define PLM_SCORE_CHAIN(finish)                                                                     \
        asm volatile(PLM_SCORE_STEP("fmul")                                                             \
                     "subs %[n], %[n], #1\n b.le 2f\n"                                                  \
                     "1:\n" PLM_SCORE_STEP("fmla")                                                      \
                     "subs %[n], %[n], #1\n b.gt 1b\n"                                                  \
                     "2:\n" PLM_EACH_FOUR(finish, "%[to]")                                              \
                     : PLM_SCORE_OPERANDS(steps))
        if (is_first) {
            PLM_SCORE_CHAIN(PLM_STORE_FOUR);
        } else {
            PLM_SCORE_CHAIN(PLM_ADD_FOUR);
        }
    }

    // clang-format on

    // the next n dimensions; a multiple of STEP
    __attribute__((always_inline)) void add_up(int64_t n) {
        if (n == SUM) {
            add_up_whole();
            return;
        }
        chain<true>((n < CHAIN ? n : CHAIN) / STEP);
        for (n -= CHAIN; n > 0; n -= CHAIN) {
            chain<false>((n < CHAIN ? n : CHAIN) / STEP);
        }
    }

    // s[row * s_stride + col] of all dimensions; the first n_rows times scale[col] * row_scale[row], and not-a-number
    // is left in `trouble` when one of them has overflowed
    void run(int64_t       width,
             int           n_rows,
             const float * scale,
             const float * row_scale,
             float *       s,
             int64_t       s_stride,
             float32x4_t & trouble) {
        for (int64_t begin = 0; begin < width; begin += SUM) {
            add_up(begin + SUM < width ? SUM : width - begin);
            for (int r = 0; r < ROWS; r++) {
                float32x4x4_t x = sums_of(sums + r * COLS);
                if (begin > 0) {
                    const float32x4x4_t old = vld1q_f32_x4(s + r * s_stride);
                    unroll<4>([&](auto j) { x.val[j] = vaddq_f32(x.val[j], old.val[j]); });
                }
                vst1q_f32_x4(s + r * s_stride, x);
            }
        }
        const float32x4x4_t factor = vld1q_f32_x4(scale);
        for (int r = 0; r < n_rows; r++, s += s_stride) {
            float32x4x4_t x = vld1q_f32_x4(s);
            unroll<4>([&](auto j) {
                x.val[j] = vmulq_n_f32(vmulq_f32(x.val[j], factor.val[j]), row_scale[r]);
                trouble  = vfmaq_n_f32(trouble, x.val[j], 0.0f);
            });
            vst1q_f32_x4(s, x);
        }
    }
};

// 16 dimensions with 8 columns
struct value_tile_f16 {
    static constexpr int COLS  = 8;
    static constexpr int DIMS  = 16;
    static constexpr int CHAIN = 32;

    const float16_t * row;
    int64_t           row_bytes;
    const float16_t * weight;  // [rows][COLS]
    alignas(64) float16_t sums[COLS * DIMS];

    // clang-format off
    // the next n rows
    template <bool is_first> __attribute__((always_inline)) void chain(int n) {
        int         fours = n / 4;
        int         ones  = n % 4;
        float16_t * to    = sums;
#    define PLM_VALUE_CHAIN(finish)                                                                     \
        asm volatile("cbz %w[fours], 3f\n" PLM_VALUE_ROWS("fmul")                                       \
                     "subs %w[fours], %w[fours], #1\n b.le 2f\n"                                        \
                     "1:\n" PLM_VALUE_ROWS("fmla")                                                      \
                     "subs %w[fours], %w[fours], #1\n b.gt 1b\n b 2f\n"                                 \
                     "3:\n ld1 {v0.8h}, [%[w]], #16\n" PLM_VALUE_ROW("fmul", 0)                         \
                     "sub %w[ones], %w[ones], #1\n"                                                     \
                     "2:\n cbz %w[ones], 4f\n ld1 {v0.8h}, [%[w]], #16\n" PLM_VALUE_ROW("fmla", 0)      \
                     "sub %w[ones], %w[ones], #1\n b 2b\n"                                              \
                     "4:\n" PLM_EACH_FOUR(finish, "%[to]")                                              \
                     : [row] "+r"(row), [w] "+r"(weight), [fours] "+r"(fours), [ones] "+r"(ones),       \
                       [to] "+r"(to)                                                                    \
                     : [stride] "r"(row_bytes)                                                          \
                     : PLM_ALL_VECTORS, "cc", "memory")
        if (is_first) {
            PLM_VALUE_CHAIN(PLM_STORE_FOUR);
        } else {
            PLM_VALUE_CHAIN(PLM_ADD_FOUR);
        }
    }

    // clang-format on

    // o[col * o_stride + d] = o * old_factor[col] + sums * new_factor[col]
    void run(int n, const float * old_factor, const float * new_factor, float * o, int64_t o_stride) {
        chain<true>(n < CHAIN ? n : CHAIN);
        for (n -= CHAIN; n > 0; n -= CHAIN) {
            chain<false>(n < CHAIN ? n : CHAIN);
        }
        for (int i = 0; i < COLS; i++, o += o_stride) {
            const float32x4x4_t x = sums_of(sums + i * DIMS);
            float32x4x4_t       y = vld1q_f32_x4(o);
            unroll<4>(
                [&](auto j) { y.val[j] = vfmaq_n_f32(vmulq_n_f32(y.val[j], old_factor[i]), x.val[j], new_factor[i]); });
            vst1q_f32_x4(o, y);
        }
    }
};

#    undef PLM_SCORE_OPERANDS
#    undef PLM_SCORE_CHAIN
#    undef PLM_VALUE_CHAIN
#    undef PLM_PAIR
#    undef PLM_SCORE_DIM
#    undef PLM_SCORE_STEP
#    undef PLM_VALUE_ROW
#    undef PLM_VALUE_ROWS
#    undef PLM_ADD_FOUR
#    undef PLM_STORE_FOUR
#    undef PLM_EACH_FOUR
#    undef PLM_ALL_VECTORS

}  // namespace plm
#endif
