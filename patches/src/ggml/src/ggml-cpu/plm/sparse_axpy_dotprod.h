#pragma once

// Scaled sums of Q4_0 rows for ARM CPUs with dotprod. Activation times block scale is brought to 16 bits, in two
// parts of 8, for a group of rows whose activations differ by no more than AXPY_RANGE (what is smaller goes to a
// group of its own, and nothing is dropped). SDOT then adds four rows at once:
//
//   rows a b c d, 16 bytes each ─zip─► a0 b0 c0 d0 a1 b1 c1 d1 ... ─► low and high nibbles, SDOT with the weights of
//   a b c d ─► four columns a register

#include "sparse_axpy.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#    define PLM_AXPY_DOTPROD

#    include "latent_attn_simd.h"
#    include "simd-mappings.h"

#    define GGML_COMMON_DECL_C
#    include "ggml-common.h"

#    include <arm_neon.h>

#    include <cmath>

namespace plm {
namespace dotprod {

constexpr float SMALLEST = 1e-20f;  // below it the reciprocal of activation times scale may overflow
constexpr int   WORTH_IT = 5;       // rows; fewer are left to the float kernel

struct row_group {
    const char * row[AXPY_MAX_ROWS];
    float        act[AXPY_MAX_ROWS];
    int          n   = 0;
    float        max = 0.0f;

    void add(const char * r, float a) {
        row[n]   = r;
        act[n++] = a;
    }

    // rows that add nothing, to whole vectors
    void pad() {
        while (n % 8 != 0) {
            add(row[0], 0.0f);
        }
    }
};

// 256 hi + lo of every row's activation times block scale, in units of `unit`
struct fixed_weights {
    int8_t  hi[AXPY_MAX_ROWS];
    int8_t  lo[AXPY_MAX_ROWS];
    int32_t sum;
    float   unit;

    fixed_weights(const row_group & g, size_t offset) {
        constexpr int most = 127 * 256;

        uint16_t   d[AXPY_MAX_ROWS];
        uint16x8_t top = vdupq_n_u16(0);
        for (int r = 0; r < g.n; r += 8) {
            unroll<8>([&](auto i) { memcpy(d + r + i, g.row[r + i] + offset, sizeof(uint16_t)); });
            top = vmaxq_u16(top, vandq_u16(vld1q_u16(d + r), vdupq_n_u16(0x7FFF)));
        }
        const float scale  = g.max * GGML_CPU_FP16_TO_FP32(vmaxvq_u16(top));
        const float factor = scale > 0.0f ? most / scale : 0.0f;
        int32x4_t   total  = vdupq_n_s32(0);
        for (int r = 0; r < g.n; r += 8) {
            const int32x4_t a = fixed(g.act + r, d + r, factor);
            const int32x4_t b = fixed(g.act + r + 4, d + r + 4, factor);
            const int16x8_t v = vcombine_s16(vmovn_s32(a), vmovn_s32(b));
            const int16x8_t h = vrshrq_n_s16(v, 8);
            vst1_s8(hi + r, vmovn_s16(h));
            vst1_s8(lo + r, vmovn_s16(vsubq_s16(v, vshlq_n_s16(h, 8))));
            total = vpadalq_s16(total, v);
        }
        sum  = vaddvq_s32(total);
        unit = scale / most;
    }

    static int32x4_t fixed(const float * act, const uint16_t * d, float factor) {
        const float32x4_t scale = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(d)));
        return vcvtnq_s32_f32(vmulq_n_f32(vmulq_f32(vld1q_f32(act), scale), factor));
    }
};

// y[0 .. 32) += the block at `offset` of all rows
inline void add_block(const row_group & g, size_t offset, float * y) {
    const fixed_weights w(g, offset);
    const uint8x16_t    m15 = vdupq_n_u8(15);
    int32x4_t           hi[8];
    int32x4_t           lo[8];
    unroll<8>([&](auto j) {
        hi[j] = vdupq_n_s32(0);
        lo[j] = vdupq_n_s32(-8 * w.sum);  // nibbles stand for 8 less
    });
    for (int r = 0; r < g.n; r += 4) {
        const auto qs = [&](int i) { return vld1q_u8((const uint8_t *) g.row[r + i] + offset + sizeof(ggml_half)); };
        const uint8x16_t a     = qs(0);
        const uint8x16_t b     = qs(1);
        const uint8x16_t c     = qs(2);
        const uint8x16_t d     = qs(3);
        const uint16x8_t ab[2] = { vreinterpretq_u16_u8(vzip1q_u8(a, b)), vreinterpretq_u16_u8(vzip2q_u8(a, b)) };
        const uint16x8_t cd[2] = { vreinterpretq_u16_u8(vzip1q_u8(c, d)), vreinterpretq_u16_u8(vzip2q_u8(c, d)) };
        const int8x16_t  h     = vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *) (w.hi + r)));
        const int8x16_t  l     = vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *) (w.lo + r)));
        unroll<4>([&](auto j) {
            const uint8x16_t q =
                vreinterpretq_u8_u16(j % 2 == 0 ? vzip1q_u16(ab[j / 2], cd[j / 2]) : vzip2q_u16(ab[j / 2], cd[j / 2]));
            const int8x16_t low  = vreinterpretq_s8_u8(vandq_u8(q, m15));
            const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(q, 4));
            hi[j]                = vdotq_s32(hi[j], low, h);
            lo[j]                = vdotq_s32(lo[j], low, l);
            hi[4 + j]            = vdotq_s32(hi[4 + j], high, h);
            lo[4 + j]            = vdotq_s32(lo[4 + j], high, l);
        });
    }
    unroll<8>([&](auto j) {
        const float32x4_t x = vcvtq_f32_s32(vaddq_s32(lo[j], vshlq_n_s32(hi[j], 8)));
        vst1q_f32(y + 4 * j, vfmaq_n_f32(vld1q_f32(y + 4 * j), x, w.unit));
    });
}

// moves the largest activations of `rows` to a group, if they are worth it
inline row_group take_group(axpy_rows & rows) {
    row_group g;
    for (int r = 0; r < rows.n; r++) {
        g.max = std::fmax(g.max, std::fabs(rows.scale[r]));
    }
    if (rows.n < WORTH_IT || !(g.max >= SMALLEST) || !std::isfinite(g.max)) {
        return g;
    }
    int left = 0;
    for (int r = 0; r < rows.n; r++) {
        if (std::fabs(rows.scale[r]) * AXPY_RANGE >= g.max) {
            g.add(rows.row[r], rows.scale[r]);
        } else {
            rows.row[left]     = rows.row[r];
            rows.scale[left++] = rows.scale[r];
        }
    }
    rows.n = left;
    g.pad();
    return g;
}

// adds what it can, and leaves the rest in `rows`
inline void axpy_q4_0(axpy_rows & rows, const axpy_rows & next, int64_t n, float * acc) {
    const axpy_rows * ahead = &next;
    for (row_group g = take_group(rows); g.n > 0; g = take_group(rows)) {
        for (int64_t i = 0; i < n / QK4_0; i++) {
            const size_t offset = i * sizeof(block_q4_0);
            add_block(g, offset, acc + i * QK4_0);
            if (ahead && offset / 64 != (offset + sizeof(block_q4_0)) / 64) {
                for (int r = 0; r < ahead->n; r++) {
                    __builtin_prefetch(ahead->row[r] + offset);
                }
            }
        }
        ahead = nullptr;
    }
}

}  // namespace dotprod
}  // namespace plm

#endif
