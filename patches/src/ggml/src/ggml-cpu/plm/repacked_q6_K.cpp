#include "repacked_rows.h"

#if defined(PLM_REPACKED_ROWS)

#    define GGML_COMMON_DECL_CPP
#    include "ggml-common.h"
#    include "ggml-cpu-impl.h"
#    include "latent_attn_simd.h"
#    include "repack.h"
#    include "repacked_simd.h"

#    include <arm_neon.h>

#    include <algorithm>

namespace plm {

namespace {

// One block of 16 rows, a quarter of its columns after the other. Three registers of bytes hold the weights of 16 rows
// in 4 columns: byte i of lane p has in its lower six bits the signed weight of row 4 * i + p, and in its upper two the
// i-th part, from the top, of the weight of row 12 + p.
struct rows_q6_K {
    struct {
        int8_t  scales[4][16];  // for 16 columns each
        uint8_t qs[4][4][3][16];
    } quarters[4];

    ggml_half d[16];
};

static_assert(sizeof(rows_q6_K) == 16 * sizeof(block_q6_K), "rearranged rows take as many bytes");

// As an intrinsic it may change places with what reads the register that it overwrites, which then has to be copied.
inline void insert_below(uint8x16_t & upper, uint8x16_t rest) {
    __asm__ volatile("sri %0.16b, %1.16b, #2" : "+w"(upper) : "w"(rest));
}

// four times the weights of rows 4 * i + lane in 4 columns
struct columns_q6_K {
    int8x16_t rows[4];

    explicit columns_q6_K(uint8x16x3_t q) {
        uint8x16_t last = vandq_u8(q.val[2], vdupq_n_u8(0xC0));
        unroll<3>([&](auto i) { rows[i] = vreinterpretq_s8_u8(vshlq_n_u8(q.val[i], 2)); });
        insert_below(q.val[1], last);
        insert_below(q.val[0], q.val[1]);
        rows[3] = vreinterpretq_s8_u8(q.val[0]);
    }
};

// f(0, s[0]) .. f(3, s[3]) with the differences of two scales of rows 4 * i + lane. Dot products go on from one group of
// 16 columns to the next, which saves setting them to zero: the sum of (what a group adds) * (its scale) is the sum of
// (what all groups up to it add) * (its scale - the next one's). What overflows on the way comes back: the end fits.
template <class body> __attribute__((always_inline)) inline void each_step(int8x16_t s, int8x16_t next, body && f) {
    const int16x8_t low  = vsubl_s8(vget_low_s8(s), vget_low_s8(next));
    const int16x8_t high = vsubl_high_s8(s, next);
    f(0, vmovl_s16(vget_low_s16(low)));
    f(1, vmovl_high_s16(low));
    f(2, vmovl_s16(vget_low_s16(high)));
    f(3, vmovl_high_s16(high));
}

// y of a block from its sums, whose weights were four times too large
inline void add_scaled(float * y, int32x4_t sum, float32x4_t d) {
    vst1q_f32(y, vfmaq_f32(vld1q_f32(y), vcvtq_n_f32_s32(sum, 2), d));
}

inline float32x4_t load_halfs(const ggml_half * d) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *) d)));
}

// Adds nb blocks of 16 rows to y.
void rows_by_token(const rows_q6_K * w, int64_t nb, const block_q8_K * x, float * y) {
    for (int64_t b = 0; b < nb; b++, w++, x++) {
        const uint8_t * p = (const uint8_t *) w->quarters;
        const uint8_t * a = (const uint8_t *) x->qs;
        int32x4_t       sum[4];
        int32x4_t       dot[4];
        unroll<4>([&](auto i) { dot[i] = sum[i] = vdupq_n_s32(0); });
        unroll<4>([&](auto quarter) {
            const int8x16x4_t scales = vld1q_s8_x4((const int8_t *) p);
            const int8x16_t after = quarter < 3 ? vld1q_s8((const int8_t *) p + sizeof(w->quarters[0])) : vdupq_n_s8(0);
            pass(p, sizeof(scales));
            const int8x16x4_t in = vld1q_s8_x4((const int8_t *) a);
            pass(a, sizeof(in));
            unroll<4>([&](auto g) {
                uint8x16x4_t q[3];
                const auto   byte = [&](int i) { return q[i / 4].val[i % 4]; };
                unroll<4>([&](auto c) {
                    if constexpr (c < 3) {
                        q[c] = vld1q_u8_x4(p);
                        pass(p, sizeof(q[c]));
                    }
                    const columns_q6_K v({ byte(3 * c), byte(3 * c + 1), byte(3 * c + 2) });
                    unroll<4>([&](auto i) {
                        dot[i] = vdotq_laneq_s32(dot[i], v.rows[i], in.val[g], decltype(c)::value);
                        settle(dot[i]);
                    });
                });
                const auto add = [&](int i, int32x4_t s) {
                    sum[i] = vmlaq_s32(sum[i], dot[i], s);
                    settle(sum[i]);
                };
                each_step(scales.val[g], g < 3 ? scales.val[(g + 1) % 4] : after, add);
            });
        });
        unroll<4>([&](auto i) { add_scaled(y + 4 * i, sum[i], vmulq_n_f32(load_halfs(w->d + 4 * i), x->d)); });
    }
}

// one block of 16 rows as products of many tokens want it: 8 rows after the other, scales and weights in their turn
struct unpacked {
    struct {
        int32x4_t steps[2];
        int8x16_t weights[2][4];
    } columns[2][16];

    float32x4_t d[4];

    explicit unpacked(const rows_q6_K & w) {
        for (int c = 0; c < 16; c++) {
            for (int i = 0; i < 4; i++) {
                const columns_q6_K v(vld1q_u8_x3(w.quarters[c / 4].qs[c % 4][i][0]));
                unroll<4>([&](auto r) { columns[r / 2][c].weights[r % 2][i] = v.rows[r]; });
            }
            const int8x16_t next = c < 15 ? vld1q_s8(w.quarters[(c + 1) / 4].scales[(c + 1) % 4]) : vdupq_n_s8(0);
            each_step(vld1q_s8(w.quarters[c / 4].scales[c % 4]), next,
                      [&](int r, int32x4_t s) { columns[r / 2][c].steps[r % 2] = s; });
        }
        unroll<4>([&](auto i) { d[i] = load_halfs(w.d + 4 * i); });
    }
};

// Adds 8 rows of a block to y for four tokens, whose results are `stride` floats apart.
void rows_by_tokens(const unpacked & w, int half, const block_q8_Kx4 * x, float * y, size_t stride) {
    const uint8_t * p = (const uint8_t *) w.columns[half];
    const uint8_t * a = (const uint8_t *) x->qs;
    int32x4_t       sum[4][2];
    int32x4_t       dot[4][2];
    unroll<4>([&](auto t) { sum[t][0] = sum[t][1] = dot[t][0] = dot[t][1] = vdupq_n_s32(0); });
    for (int c = 0; c < 16; c++) {
        const int32x4_t steps[2] = { vld1q_s32((const int32_t *) p), vld1q_s32((const int32_t *) p + 4) };
        pass(p, sizeof(steps));
        const int8x16x4_t in = vld1q_s8_x4((const int8_t *) a);
        pass(a, sizeof(in));
        unroll<2>([&](auto r) {
            const int8x16x4_t v = vld1q_s8_x4((const int8_t *) p);
            pass(p, sizeof(v));
            unroll<4>([&](auto t) {
                unroll<4>(
                    [&](auto i) { dot[t][r] = vdotq_laneq_s32(dot[t][r], v.val[i], in.val[i], decltype(t)::value); });
                sum[t][r] = vmlaq_s32(sum[t][r], dot[t][r], steps[r]);
                settle(sum[t][r]);
            });
        });
    }
    const float32x4_t d = vld1q_f32(x->d);
    unroll<4>([&](auto t) {
        unroll<2>([&](auto r) {
            add_scaled(y + t * stride + 4 * r, sum[t][r], vmulq_laneq_f32(w.d[2 * half + r], d, decltype(t)::value));
        });
    });
}

// a byte for each of the columns j to j + 3: the signed weight, in six bits
uint32_t weights_of(const block_q6_K & b, int j) {
    const int      at   = j % 128;
    const uint32_t low  = load_word(b.ql + j / 128 * 64 + at % 64) >> (at / 64 * 4) & 0x0F0F0F0F;
    const uint32_t high = load_word(b.qh + j / 128 * 32 + at % 32) >> (at / 32 * 2) & 0x03030303;
    return (high << 4 | low) ^ 0x20202020;
}

void fill(rows_q6_K & out, const block_q6_K * const * rows, int64_t b) {
    for (int r = 0; r < 16; r++) {
        out.d[r] = rows[r][b].d;
        for (int g = 0; g < 16; g++) {
            out.quarters[g / 4].scales[g % 4][r] = rows[r][b].scales[g];
        }
    }
    for (int j = 0; j < QK_K; j += 4) {
        for (int p = 0; p < 4; p++) {
            const uint32_t shared = weights_of(rows[12 + p][b], j);
            for (int i = 0; i < 3; i++) {
                const uint32_t part  = shared >> (4 - 2 * i) & 0x03030303;
                const uint32_t bytes = part << 6 | weights_of(rows[4 * i + p][b], j);
                memcpy(out.quarters[j / 64].qs[j / 16 % 4][j / 4 % 4][i] + 4 * p, &bytes, sizeof(bytes));
            }
        }
    }
}

}  // namespace

void repack_q6_K(int64_t k, int64_t n_rows, const void * src, void * dst) {
    rearrange<REPACKED_ROWS_Q6_K>((const block_q6_K *) src, k / QK_K, n_rows, (rows_q6_K *) dst, fill);
}

void gemv_q6_K(int64_t k, const void * w, const void * x, int64_t n_rows, float * y) {
    const int64_t nb = k / QK_K;
    std::fill_n(y, n_rows, 0.0f);
    for (int64_t r = 0; r < n_rows; r += 16) {
        rows_by_token((const rows_q6_K *) w + r / 16 * nb, nb, (const block_q8_K *) x, y + r);
    }
}

void gemm_q6_K(int64_t k, const void * w, const void * x, int64_t n_rows, int64_t n_tokens, float * y, size_t stride) {
    const int64_t nb = k / QK_K;
    for (int64_t t = 0; t < n_tokens; t++) {
        std::fill_n(y + t * stride, n_rows, 0.0f);
    }
    for (int64_t r = 0; r < n_rows; r += 16) {
        for (int64_t b = 0; b < nb; b++) {
            const unpacked rows(((const rows_q6_K *) w)[r / 16 * nb + b]);
            for (int64_t t = 0; t < n_tokens; t += 4) {
                const block_q8_Kx4 * in = (const block_q8_Kx4 *) x + t / 4 * nb + b;
                rows_by_tokens(rows, 0, in, y + t * stride + r, stride);
                rows_by_tokens(rows, 1, in, y + t * stride + r + 8, stride);
            }
        }
    }
}

}  // namespace plm
#endif
