#pragma once

// The running softmax of 16 columns for weights that are to be halfs: relative to the maximum of the block of rows they
// belong to, so that the largest is 1, and with two factors for each column that bring what came before and the block
// to the common maximum.

#include "latent_attn_simd.h"
#include "latent_attn_softmax.h"

#if defined(__aarch64__)

#    include <arm_neon.h>

namespace plm {

// 2^x for x <= 0, below 2^-126 for what is less, within 2 ulp elsewhere
static inline float32x4_t exp2_of(float32x4_t x) {
    const float32x4_t magic    = vdupq_n_f32(0x1.8p23f);  // adding it rounds to an integer in the low mantissa bits
    const float32x4_t y        = vmaxq_f32(x, vdupq_n_f32(-126.0f));
    const float32x4_t exponent = vaddq_f32(y, magic);
    const float32x4_t f        = vsubq_f32(y, vsubq_f32(exponent, magic));
    const float32x4_t f2       = vmulq_f32(f, f);
    // within 1e-7 of 2^f for f from -1/2 to 1/2
    const float32x4_t a        = vfmaq_f32(vdupq_n_f32(1.0f), f, vdupq_n_f32(0x1.62e42ap-1f));
    const float32x4_t b        = vfmaq_f32(vdupq_n_f32(0x1.ebf9bcp-3f), f, vdupq_n_f32(0x1.c6b752p-5f));
    const float32x4_t c        = vfmaq_f32(vdupq_n_f32(0x1.3cea88p-7f), f, vdupq_n_f32(0x1.5bba1p-10f));
    const float32x4_t p        = vfmaq_f32(a, vfmaq_f32(b, c, f2), f2);
    return vreinterpretq_f32_s32(vmlaq_n_s32(vreinterpretq_s32_f32(p), vreinterpretq_s32_f32(exponent), 1 << 23));
}

__attribute__((noinline)) static void soften_f16(const column_state & state,
                                                 float *              s,
                                                 int                  n,
                                                 float *              old_factor,
                                                 float *              new_factor) {
    constexpr float lowest = -INFINITY;
    float32x4x4_t   top;
    float32x4x4_t   pivot;
    float32x4x4_t   total;
    unroll<4>([&](auto j) { top.val[j] = vdupq_n_f32(lowest); });
    for (int r = 0; r < n; r++) {
        const float32x4x4_t x = vld1q_f32_x4(s + r * COLS);
        unroll<4>([&](auto j) { top.val[j] = vmaxq_f32(top.val[j], x.val[j]); });
    }
    // nothing visible: avoid inf - inf
    const auto finite = [](float32x4_t x) {
        return vbslq_f32(vceqq_f32(x, vdupq_n_f32(lowest)), vdupq_n_f32(0.0f), x);
    };
    unroll<4>([&](auto j) {
        pivot.val[j] = finite(top.val[j]);
        total.val[j] = vdupq_n_f32(0.0f);
    });
    for (int r = 0; r < n; r++) {
        float32x4x4_t x = vld1q_f32_x4(s + r * COLS);
        unroll<4>([&](auto j) {
            x.val[j]     = exp2_of(vmulq_n_f32(vsubq_f32(x.val[j], pivot.val[j]), 0x1.715476p+0f));
            total.val[j] = vaddq_f32(total.val[j], x.val[j]);
        });
        vst1q_f32_x4(s + r * COLS, x);
    }
    unroll<4>([&](auto j) {
        const float32x4_t before = vld1q_f32(state.max + 4 * j);
        const float32x4_t max    = vmaxq_f32(before, top.val[j]);
        const vf          common = (vf) finite(max);
        const vf          old    = vf_exp((vf) before - common);
        const vf          now    = vf_exp((vf) top.val[j] - common);
        vf_store(state.sum + 4 * j, vf_load(state.sum + 4 * j) * old + (vf) total.val[j] * now);
        vf_store(old_factor + 4 * j, old);
        vf_store(new_factor + 4 * j, now);
        vst1q_f32(state.max + 4 * j, max);
    });
}

}  // namespace plm
#endif
