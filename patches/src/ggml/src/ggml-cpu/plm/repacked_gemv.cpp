#include "repacked_gemv.h"

#if defined(PLM_REPACKED_GEMV)

#    define GGML_COMMON_DECL_CPP
#    include "ggml-common.h"
#    include "ggml-cpu-impl.h"
#    include "latent_attn_simd.h"
#    include "repack.h"
#    include "simd-mappings.h"

#    include <arm_neon.h>

#    include <algorithm>

namespace plm {

namespace {

float32x4_t load_halfs(const ggml_half * d) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *) d)));
}

// What comes later is not begun before x is there. Left alone, compilers load everything at once and then spill it.
template <class T> void settle(T & x) {
    __asm__ volatile("" : "+w"(x)::"memory");
}

// G groups of 4 rows, nb blocks each
template <int G> void rows_q4_0(const block_q4_0x4 * w, int64_t nb, const block_q8_0 * x, float * y) {
    float32x4_t acc[G];
    unroll<G>([&](auto g) { acc[g] = vdupq_n_f32(0.0f); });
    for (int64_t b = 0; b < nb; b++, w++, x++) {
        const int8x16x2_t in = vld1q_s8_x2(x->qs);
        const float       dx = GGML_CPU_FP16_TO_FP32(x->d);
        unroll<G>([&](auto g) {
            const block_q4_0x4 * v   = w + g * nb;
            const float32x4_t    dw  = load_halfs(v->d);
            const uint8x16x4_t   q   = vld1q_u8_x4((const uint8_t *) v->qs);
            int32x4_t            sum = vdupq_n_s32(0);
            // the nibbles are signed: as the upper half of a byte each is 16 times its value
            unroll<4>([&](auto i) {
                const int8x16_t low  = vreinterpretq_s8_u8(vshlq_n_u8(q.val[i], 4));
                const int8x16_t high = vreinterpretq_s8_u8(vandq_u8(q.val[i], vdupq_n_u8(0xF0)));
                sum                  = vdotq_laneq_s32(sum, low, in.val[0], decltype(i)::value);
                sum                  = vdotq_laneq_s32(sum, high, in.val[1], decltype(i)::value);
            });
            acc[g] = vfmaq_f32(acc[g], vcvtq_n_f32_s32(sum, 4), vmulq_n_f32(dw, dx));
            settle(acc[g]);
        });
    }
    unroll<G>([&](auto g) { vst1q_f32(y + 4 * g, acc[g]); });
}

// what an offset of -32 on all weights adds, for each 16 activations
void offsets_of(const block_q8_K & x, int32_t * offset) {
    for (int i = 0; i < 16; i++) {
        offset[i] = -32 * x.bsums[i];
    }
}

// Nibbles: the upper of `from` becomes the lower of `to`, or the other way round. As intrinsics they may change
// places, and then what they overwrite has to be copied first.
inline void insert_right(uint8x16_t & to, uint8x16_t from) {
    __asm__ volatile("sri %0.16b, %1.16b, #4" : "+w"(to) : "w"(from));
}

inline void insert_left(uint8x16_t & to, uint8x16_t from) {
    __asm__ volatile("sli %0.16b, %1.16b, #4" : "+w"(to) : "w"(from));
}

// The part of a super-block of 8 rows that shares its high bits: 16 weights at j, j + 32, j + 64 and j + 96 of a
// half. Adds their sums, scaled, to sum[2], 4 rows each.
__attribute__((always_inline)) inline void part_q6_K(const uint8_t * ql,
                                                     const uint8_t * qh,
                                                     const int8_t *  scales,
                                                     const int8_t *  x,
                                                     const int32_t * offset,
                                                     int32x4_t *     sum) {
    const uint8x16_t m30 = vdupq_n_u8(0x30);
    const uint8x16_t m3f = vdupq_n_u8(0x3F);

    int8x16_t in[4];
    int32x4_t dot[4][2];
    unroll<4>([&](auto f) {
        in[f]     = vld1q_s8(x + 32 * f);
        dot[f][0] = vld1q_dup_s32(offset + 2 * f);
        dot[f][1] = dot[f][0];
    });
    unroll<4>([&](auto i) {
        uint8x16_t l0[2] = { vld1q_u8(ql + 32 * i), vld1q_u8(ql + 32 * i + 16) };
        uint8x16_t l1[2] = { vld1q_u8(ql + 256 + 32 * i), vld1q_u8(ql + 256 + 32 * i + 16) };
        uint8x16_t h[2]  = { vld1q_u8(qh + 32 * i), vld1q_u8(qh + 32 * i + 16) };
        unroll<2>([&](auto g) {
            const uint8x16_t high = vshrq_n_u8(h[g], 2);
            uint8x16_t       w2   = vandq_u8(h[g], m30);
            uint8x16_t       w3   = vandq_u8(high, m30);
            insert_right(w2, l0[g]);
            insert_right(w3, l1[g]);
            insert_left(l0[g], h[g]);
            insert_left(l1[g], high);
            const uint8x16_t w0   = vandq_u8(l0[g], m3f);
            const uint8x16_t w1   = vandq_u8(l1[g], m3f);
            constexpr int    lane = decltype(i)::value;
            dot[0][g]             = vdotq_laneq_s32(dot[0][g], vreinterpretq_s8_u8(w0), in[0], lane);
            dot[1][g]             = vdotq_laneq_s32(dot[1][g], vreinterpretq_s8_u8(w1), in[1], lane);
            dot[2][g]             = vdotq_laneq_s32(dot[2][g], vreinterpretq_s8_u8(w2), in[2], lane);
            dot[3][g]             = vdotq_laneq_s32(dot[3][g], vreinterpretq_s8_u8(w3), in[3], lane);
            settle(dot[0][g]);
        });
    });
    unroll<4>([&](auto f) {
        const int16x8_t s = vmovl_s8(vld1_s8(scales + 16 * f));
        sum[0]            = vmlaq_s32(sum[0], dot[f][0], vmovl_s16(vget_low_s16(s)));
        sum[1]            = vmlaq_s32(sum[1], dot[f][1], vmovl_high_s16(s));
    });
}

// blocks whose offsets are kept at a time
constexpr int64_t KEPT = 16;

// adds blocks 0 .. nb of 8 rows to y
void rows_q6_K(const block_q6_Kx8 * w, int64_t nb, const block_q8_K * x, const int32_t (*offset)[16], float * y) {
    float32x4_t acc[2] = { vld1q_f32(y), vld1q_f32(y + 4) };
    for (int64_t b = 0; b < nb; b++, w++, x++) {
        int32x4_t sum[2] = { vdupq_n_s32(0), vdupq_n_s32(0) };
        unroll<4>([&](auto i) {
            constexpr int half = decltype(i)::value / 2;
            constexpr int part = decltype(i)::value % 2;
            part_q6_K(w->ql + 512 * half + 128 * part, w->qh + 256 * half + 128 * part,
                      w->scales + 64 * half + 8 * part, x->qs + 128 * half + 16 * part, offset[b] + 8 * half + part,
                      sum);
            settle(sum[0]);
            settle(sum[1]);
        });
        unroll<2>([&](auto g) {
            const float32x4_t d = vmulq_n_f32(load_halfs(w->d + 4 * g), x->d);
            acc[g]              = vfmaq_f32(acc[g], vcvtq_f32_s32(sum[g]), d);
        });
    }
    vst1q_f32(y, acc[0]);
    vst1q_f32(y + 4, acc[1]);
}

}  // namespace

void gemv_q4_0_4x4(int64_t k, const void * w, const void * x, int64_t n_rows, float * y) {
    const int64_t        nb   = k / QK8_0;
    const block_q4_0x4 * rows = (const block_q4_0x4 *) w;
    int64_t              r    = 0;
    for (; r + 16 <= n_rows; r += 16) {
        rows_q4_0<4>(rows + r / 4 * nb, nb, (const block_q8_0 *) x, y + r);
    }
    for (; r < n_rows; r += 4) {
        rows_q4_0<1>(rows + r / 4 * nb, nb, (const block_q8_0 *) x, y + r);
    }
}

void gemv_q6_K_8x4(int64_t k, const void * w, const void * x, int64_t n_rows, float * y) {
    const int64_t nb = k / QK_K;
    std::fill_n(y, n_rows, 0.0f);
    for (int64_t first = 0; first < nb; first += KEPT) {
        const int64_t      n  = std::min(KEPT, nb - first);
        const block_q8_K * in = (const block_q8_K *) x + first;
        int32_t            offset[KEPT][16];
        for (int64_t b = 0; b < n; b++) {
            offsets_of(in[b], offset[b]);
        }
        for (int64_t r = 0; r < n_rows; r += 8) {
            rows_q6_K((const block_q6_Kx8 *) w + r / 8 * nb + first, n, in, offset, y + r);
        }
    }
}

}  // namespace plm
#endif
