#include "repacked_rows.h"

#if defined(PLM_REPACKED_ROWS)

#    define GGML_COMMON_DECL_CPP
#    include "ggml-common.h"
#    include "ggml-cpu-impl.h"
#    include "latent_attn_simd.h"
#    include "repack.h"
#    include "repacked_simd.h"
#    include "simd-mappings.h"

#    include <arm_neon.h>

#    include <algorithm>

namespace plm {

namespace {

// One block of 8 rows. Byte 16 * i + 4 * p + c belongs to column 4 * i + c: its upper nibble is the signed weight of row
// p, its lower one the weight + 8 of row p + 4. So the byte itself is 16 * upper + lower, and without its lower nibble
// 16 * upper: both sums come from the byte and one AND, and the difference is the lower rows' sum.
struct rows_q4_0 {
    ggml_half d[8];
    uint8_t   qs[QK4_0 * 4];
};

static_assert(sizeof(rows_q4_0) == 8 * sizeof(block_q4_0), "rearranged rows take as many bytes");

// blocks whose activations are prepared at a time
constexpr int64_t KEPT = 64;

// the activations of one block, their scale, and, as an integer, what takes off what the + 8 of the lower nibbles adds
struct input {
    int8_t      qs[QK8_0];
    float32x2_t d_offset;
};

// the same for four tokens, whose values stay where they are
struct inputs {
    float32x4_t d;
    int32x4_t   offset;
};

void prepare(const block_q8_0 * x, int64_t n, input * in) {
    for (int64_t b = 0; b < n; b++) {
        const int8x16x2_t q           = vld1q_s8_x2(x[b].qs);
        const int8x16_t   minus_eight = vdupq_n_s8(-8);
        const int32x4_t   sums   = vdotq_s32(vdotq_s32(vdupq_n_s32(0), q.val[0], minus_eight), q.val[1], minus_eight);
        const int32x2_t   offset = vdup_n_s32(vaddvq_s32(sums));
        vst1q_s8_x2(in[b].qs, q);
        in[b].d_offset = vset_lane_f32(GGML_CPU_FP16_TO_FP32(x[b].d), vreinterpret_f32_s32(offset), 0);
    }
}

void prepare(const block_q8_0x4 * x, int64_t n, inputs * in) {
    for (int64_t b = 0; b < n; b++) {
        in[b].d      = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *) x[b].d)));
        in[b].offset = vdupq_n_s32(0);
        for (int i = 0; i < QK8_0; i += 4) {
            in[b].offset = vdotq_s32(in[b].offset, vld1q_s8(x[b].qs + 4 * i), vdupq_n_s8(-8));
        }
    }
}

int8x16_t upper(uint8x16_t q) {
    return vreinterpretq_s8_u8(vandq_u8(q, vdupq_n_u8(0xF0)));
}

int8x16_t both(uint8x16_t q) {
    return vreinterpretq_s8_u8(q);
}

// Adds blocks 0 .. n of G groups of 8 rows to y; the groups are `stride` blocks apart.
template <int G> void rows_by_token(const rows_q4_0 * w, int64_t stride, int64_t n, const input * x, float * y) {
    const uint8_t * group[G];
    float32x4_t     acc[G][2];
    unroll<G>([&](auto g) {
        group[g]  = (const uint8_t *) (w + g * stride);
        acc[g][0] = vld1q_f32(y + 8 * g);
        acc[g][1] = vld1q_f32(y + 8 * g + 4);
    });
    for (const input * end = x + n; x < end; x++) {
        const int8x16_t   in[2] = { vld1q_s8(x->qs), vld1q_s8(x->qs + 16) };
        const float32x2_t kept  = x->d_offset;
        unroll<G>([&](auto g) {
            const float16x8_t d = vreinterpretq_f16_u16(vld1q_u16((const uint16_t *) group[g]));
            pass(group[g], sizeof(d));
            int32x4_t first = vdupq_n_s32(0);
            int32x4_t sum   = vdupq_lane_s32(vreinterpret_s32_f32(kept), 1);
            unroll<2>([&](auto h) {
                const uint8x16x4_t q = vld1q_u8_x4(group[g]);
                pass(group[g], sizeof(q));
                unroll<4>([&](auto i) {
                    first = vdotq_laneq_s32(first, upper(q.val[i]), in[h], decltype(i)::value);
                    sum   = vdotq_laneq_s32(sum, both(q.val[i]), in[h], decltype(i)::value);
                });
            });
            const float32x4_t d0 = vmulq_lane_f32(vcvt_f32_f16(vget_low_f16(d)), kept, 0);
            const float32x4_t d1 = vmulq_lane_f32(vcvt_high_f32_f16(d), kept, 0);
            acc[g][0]            = vfmaq_f32(acc[g][0], vcvtq_n_f32_s32(first, 4), d0);
            acc[g][1]            = vfmaq_f32(acc[g][1], vcvtq_f32_s32(vsubq_s32(sum, first)), d1);
            settle(acc[g][1]);
        });
    }
    unroll<G>([&](auto g) {
        vst1q_f32(y + 8 * g, acc[g][0]);
        vst1q_f32(y + 8 * g + 4, acc[g][1]);
    });
}

// The same for one group and four tokens, whose results are `stride` floats apart.
void rows_by_tokens(const rows_q4_0 *    w,
                    int64_t              n,
                    const block_q8_0x4 * x,
                    const inputs *       in,
                    float *              y,
                    size_t               stride) {
    float32x4_t acc[4][2];
    unroll<4>([&](auto t) {
        acc[t][0] = vld1q_f32(y + t * stride);
        acc[t][1] = vld1q_f32(y + t * stride + 4);
    });
    const uint8_t * rows = (const uint8_t *) w;
    const uint8_t * v    = (const uint8_t *) x->qs;
    for (const inputs * end = in + n; in < end; in++) {
        const float16x8_t d = vreinterpretq_f16_u16(vld1q_u16((const uint16_t *) rows));
        pass(rows, sizeof(d));
        int32x4_t first[4];
        int32x4_t sum[4];
        unroll<4>([&](auto t) {
            first[t] = vdupq_n_s32(0);
            sum[t]   = vdupq_laneq_s32(in->offset, decltype(t)::value);
        });
        unroll<2>([&](auto h) {
            const uint8x16x4_t q = vld1q_u8_x4(rows);
            const int8x16x4_t  a = vld1q_s8_x4((const int8_t *) v);
            pass(rows, sizeof(q));
            pass(v, h == 0 ? sizeof(a) : sizeof(*x) - sizeof(a));
            unroll<4>([&](auto i) {
                const int8x16_t high = upper(q.val[i]);
                unroll<4>([&](auto t) {
                    first[t] = vdotq_laneq_s32(first[t], high, a.val[i], decltype(t)::value);
                    sum[t]   = vdotq_laneq_s32(sum[t], both(q.val[i]), a.val[i], decltype(t)::value);
                });
            });
            unroll<4>([&](auto t) {
                settle(first[t]);
                settle(sum[t]);
            });
        });
        const float32x4_t dx = in->d;
        const float32x4_t d0 = vcvt_f32_f16(vget_low_f16(d));
        const float32x4_t d1 = vcvt_high_f32_f16(d);
        unroll<4>([&](auto t) {
            constexpr int lane = decltype(t)::value;
            acc[t][0]          = vfmaq_f32(acc[t][0], vcvtq_n_f32_s32(first[t], 4), vmulq_laneq_f32(d0, dx, lane));
            acc[t][1] = vfmaq_f32(acc[t][1], vcvtq_f32_s32(vsubq_s32(sum[t], first[t])), vmulq_laneq_f32(d1, dx, lane));
            settle(acc[t][1]);
        });
    }
    unroll<4>([&](auto t) {
        vst1q_f32(y + t * stride, acc[t][0]);
        vst1q_f32(y + t * stride + 4, acc[t][1]);
    });
}

void fill(rows_q4_0 & out, const block_q4_0 * const * rows, int64_t b) {
    constexpr uint32_t low_nibbles = 0x0F0F0F0F;
    constexpr uint32_t eights      = 0x08080808;

    for (int r = 0; r < 8; r++) {
        out.d[r] = rows[r][b].d;
    }
    // four bytes at a time: in the file their lower nibbles are columns 0 to 15, their upper ones 16 to 31
    for (int i = 0; i < 4; i++) {
        for (int p = 0; p < 4; p++) {
            const uint32_t upper = load_word(rows[p][b].qs + 4 * i) ^ (eights << 4 | eights);
            const uint32_t lower = load_word(rows[p + 4][b].qs + 4 * i);
            const uint32_t first = (upper & low_nibbles) << 4 | (lower & low_nibbles);
            const uint32_t other = (upper & ~low_nibbles) | (lower >> 4 & low_nibbles);
            memcpy(out.qs + 16 * i + 4 * p, &first, sizeof(first));
            memcpy(out.qs + 64 + 16 * i + 4 * p, &other, sizeof(other));
        }
    }
}

}  // namespace

void repack_q4_0(int64_t k, int64_t n_rows, const void * src, void * dst) {
    rearrange<REPACKED_ROWS_Q4_0>((const block_q4_0 *) src, k / QK4_0, n_rows, (rows_q4_0 *) dst, fill);
}

void gemv_q4_0(int64_t k, const void * w, const void * x, int64_t n_rows, float * y) {
    const int64_t nb = k / QK8_0;
    std::fill_n(y, n_rows, 0.0f);
    for (int64_t first = 0; first < nb; first += KEPT) {
        const int64_t     n    = std::min(KEPT, nb - first);
        const rows_q4_0 * rows = (const rows_q4_0 *) w + first;
        input             in[KEPT];
        prepare((const block_q8_0 *) x + first, n, in);
        int64_t r = 0;
        for (; r + 32 <= n_rows; r += 32) {
            rows_by_token<4>(rows + r / 8 * nb, nb, n, in, y + r);
        }
        for (; r < n_rows; r += 8) {
            rows_by_token<1>(rows + r / 8 * nb, nb, n, in, y + r);
        }
    }
}

void gemm_q4_0(int64_t k, const void * w, const void * x, int64_t n_rows, int64_t n_tokens, float * y, size_t stride) {
    const int64_t nb = k / QK8_0;
    for (int64_t t = 0; t < n_tokens; t++) {
        std::fill_n(y + t * stride, n_rows, 0.0f);
    }
    // a group of rows stays in the first cache while this many tokens, in the second, pass it
    constexpr int64_t TOGETHER = 32;
    for (int64_t t0 = 0; t0 < n_tokens; t0 += TOGETHER) {
        const int64_t t1 = std::min(t0 + TOGETHER, n_tokens);
        for (int64_t first = 0; first < nb; first += KEPT) {
            const int64_t n = std::min(KEPT, nb - first);
            inputs        in[TOGETHER / 4][KEPT];
            for (int64_t t = t0; t < t1; t += 4) {
                prepare((const block_q8_0x4 *) x + t / 4 * nb + first, n, in[(t - t0) / 4]);
            }
            for (int64_t r = 0; r < n_rows; r += 8) {
                for (int64_t t = t0; t < t1; t += 4) {
                    rows_by_tokens((const rows_q4_0 *) w + r / 8 * nb + first, n,
                                   (const block_q8_0x4 *) x + t / 4 * nb + first, in[(t - t0) / 4], y + t * stride + r,
                                   stride);
                }
            }
        }
    }
}

}  // namespace plm
#endif
