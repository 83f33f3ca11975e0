// GGML_PLM_HEAD_MATVEC: y[h] = w[h] * x[h] for small per-head weights of any type.
//
// The generic 3-D product quantises the activations behind a barrier and hands out tiny chunks per head;
// here every thread walks one contiguous piece of the weights, expands a row into L1 and multiplies it in
// float. At a few instructions per weight that still runs ahead of memory.

#include "head_matvec.h"

#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "ggml-plm.h"
#include "kernels.h"
#include "latent_attn_simd.h"
#include "simd-mappings.h"

#define GGML_COMMON_DECL_C
#include "ggml-common.h"

#include <cstring>

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#    define PLM_HEAD_VNNI
#endif

namespace plm {

namespace {

// the 32 small integers of a block; at(j) gives VW of them as floats
struct quants_q8_0 {
    const int8_t * q;

    explicit quants_q8_0(const block_q8_0 & b) : q(b.qs) {}

    vf at(int j) const { return vf_from_i8(q + j); }
};

#if defined(__AVX512F__)
// one permutation turns 16 nibbles into floats: it looks at the low 4 bits of a lane only
struct quants_q4_0 {
    __m512i bytes;

    explicit quants_q4_0(const block_q4_0 & b) : bytes(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) b.qs))) {}

    vf at(int j) const {
        const __m512 value = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
        return (vf) _mm512_permutexvar_ps(j == 0 ? bytes : _mm512_srli_epi32(bytes, 4), value);
    }
};
#else
struct quants_q4_0 {
    alignas(32) int8_t q[QK4_0];

    explicit quants_q4_0(const block_q4_0 & b) {
        typedef uint8_t bytes __attribute__((vector_size(16)));
        bytes           v;
        memcpy(&v, b.qs, sizeof(v));
        const bytes low  = (v & 15) - 8;
        const bytes high = (v >> 4) - 8;
        memcpy(q, &low, sizeof(low));
        memcpy(q + 16, &high, sizeof(high));
    }

    vf at(int j) const { return vf_from_i8(q + j); }
};
#endif

quants_q8_0 quants_of(const block_q8_0 & b) {
    return quants_q8_0(b);
}

quants_q4_0 quants_of(const block_q4_0 & b) {
    return quants_q4_0(b);
}

template <class block> void expand(const block * b, int64_t n_blocks, float * y) {
    for (int64_t i = 0; i < n_blocks; i++, y += 32) {
        const float d      = GGML_CPU_FP16_TO_FP32(b[i].d);
        const auto  quants = quants_of(b[i]);
        for (int j = 0; j < 32; j += VW) {
            vf_store(y + j, d * quants.at(j));
        }
    }
}

#if defined(__ARM_FEATURE_DOTPROD)

// up to so many tokens take turns at the weights, in integers, instead of sharing rows expanded to floats
constexpr int64_t DOT_TOKENS = INT64_MAX;

// 32 values in 16 bits, scale * (256 hi + lo): two SDOTs are a quarter of the instructions of a detour
// through floats
struct fixed_block {
    int8_t hi[32];
    int8_t lo[32];
    float  scale;
};

static_assert(sizeof(fixed_block) <= 32 * sizeof(float), "it takes the place of a row of floats");

void to_fixed(const float * x, int64_t n, fixed_block * y) {
    constexpr int most = 127 * 256;
    for (int64_t i = 0; i < n / 32; i++, x += 32, y++) {
        float32x4_t max = vdupq_n_f32(1e-30f);
        for (int j = 0; j < 32; j += 4) {
            max = vmaxq_f32(max, vabsq_f32(vld1q_f32(x + j)));
        }
        y->scale           = vmaxvq_f32(max) / most;
        const float factor = 1.0f / y->scale;
        for (int j = 0; j < 32; j += 8) {
            const int32x4_t a  = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + j), factor));
            const int32x4_t b  = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + j + 4), factor));
            const int16x8_t v  = vcombine_s16(vqmovn_s32(a), vqmovn_s32(b));
            const int16x8_t hi = vrshrq_n_s16(v, 8);
            vst1_s8(y->hi + j, vmovn_s16(hi));
            vst1_s8(y->lo + j, vmovn_s16(vsubq_s16(v, vshlq_n_s16(hi, 8))));
        }
    }
}

int8x16x2_t weights_of(const int8_t * qs) {
    return vld1q_s8_x2(qs);
}

int8x16x2_t weights_of(const uint8_t * qs) {
    const uint8x16_t v = vld1q_u8(qs);
    const int8x16_t  c = vdupq_n_s8(8);
    return {
        { vsubq_s8(vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15))), c),
         vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(v, 4)), c) }
    };
}

// four rows of one block: their sums, each still spread over four lanes, become one vector
int32x4_t sum_each(const int32x4_t * v) {
    return vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]));
}

// ROWS rows of one block after the other, so that the rows share what is loaded of x
template <int ROWS, class block>
void dot_some_rows(const char * rows, size_t stride, int64_t n, const fixed_block * x, float * y) {
    float32x4_t sum[ROWS / 4];
    unroll<ROWS / 4>([&](auto i) { sum[i] = vdupq_n_f32(0.0f); });
    for (int64_t i = 0; i < n / 32; i++, x++, rows += sizeof(block)) {
        const int8x16x4_t v  = vld1q_s8_x4((const int8_t *) x);  // hi, then lo
        const auto *      qs = ((const block *) rows)->qs;
        const float16_t * ds = (const float16_t *) &((const block *) rows)->d;
        unroll<ROWS / 4>([&](auto four) {
            // four rows after the other, and pointers that walk instead of differences from one
            asm volatile("" : "+w"(sum[four > 0 ? four - 1 : 0]), "+r"(qs), "+r"(ds) : : "memory");
            float16x4_t d = vdup_n_f16(0);
            int32x4_t   dot[4];
            unroll<4>([&](auto r) {
                const int8x16x2_t w = weights_of(qs);
                const int32x4_t   h = vdotq_s32(vdotq_s32(vdupq_n_s32(0), w.val[0], v.val[0]), w.val[1], v.val[1]);
                dot[r]              = vdotq_s32(vdotq_s32(vshlq_n_s32(h, 8), w.val[0], v.val[2]), w.val[1], v.val[3]);
                d                   = vld1_lane_f16(ds, d, decltype(r)::value);
                qs += stride;
                ds = (const float16_t *) ((const char *) ds + stride);
            });
            const float32x4_t scale = vmulq_n_f32(vcvt_f32_f16(d), x->scale);
            sum[four]               = vfmaq_f32(sum[four], vcvtq_f32_s32(sum_each(dot)), scale);
        });
    }
    unroll<ROWS / 4>([&](auto i) { vst1q_f32(y + 4 * i, sum[i]); });
}

template <class block> float dot_row(const char * row, int64_t n, const fixed_block * x) {
    float sum = 0.0f;
    for (int64_t i = 0; i < n / 32; i++, x++, row += sizeof(block)) {
        const block &     b = *(const block *) row;
        const int8x16x2_t w = weights_of(b.qs);
        const int32x4_t   h =
            vdotq_s32(vdotq_s32(vdupq_n_s32(0), w.val[0], vld1q_s8(x->hi)), w.val[1], vld1q_s8(x->hi + 16));
        const int32x4_t v =
            vdotq_s32(vdotq_s32(vshlq_n_s32(h, 8), w.val[0], vld1q_s8(x->lo)), w.val[1], vld1q_s8(x->lo + 16));
        sum += vaddvq_s32(v) * (GGML_CPU_FP16_TO_FP32(b.d) * x->scale);
    }
    return sum;
}

template <class block>
void dot_all_rows(const char * rows, size_t stride, int64_t n_rows, int64_t n, const float * x, float * y, void * tmp) {
    fixed_block * fixed = (fixed_block *) tmp;
    to_fixed(x, n, fixed);
    int64_t r = 0;
    for (; r + 16 <= n_rows; r += 16) {
        dot_some_rows<16, block>(rows + r * stride, stride, n, fixed, y + r);
    }
    for (; r + 4 <= n_rows; r += 4) {
        dot_some_rows<4, block>(rows + r * stride, stride, n, fixed, y + r);
    }
    for (; r < n_rows; r++) {
        y[r] = dot_row<block>(rows + r * stride, n, fixed);
    }
}

#else

constexpr int64_t DOT_TOKENS = 1;

// rows that share the loads of x and hide each other's latency; measured on Zen 5, 2026-11: 4.6 -> 3.3 ms for Q4_0,
// a loss for Q8_0, whose expansion keeps the ports busy alone
template <class block> constexpr int DOT_ROWS             = 1;
template <> constexpr int            DOT_ROWS<block_q4_0> = 4;

// y[r] = row r . x for N rows, without the detour over expanded rows
template <int N, class block> void dot_rows(const char * rows, size_t stride, int64_t n, const float * x, float * y) {
    vf sum[N];
    unroll<N>([&](auto r) { sum[r] = vf{}; });
    for (int64_t i = 0; i < n / 32; i++, x += 32) {
        unroll<N>([&](auto r) {
            const block & b        = ((const block *) (rows + r * stride))[i];
            const auto    quants   = quants_of(b);
            vf            products = quants.at(0) * vf_load(x);
            for (int j = VW; j < 32; j += VW) {
                products += quants.at(j) * vf_load(x + j);
            }
            sum[r] = sum[r] + products * GGML_CPU_FP16_TO_FP32(b.d);
        });
    }
    unroll<N>([&](auto r) { y[r] = vf_sum(sum[r]); });
}

template <class block>
void dot_all_rows(const char *  rows,
                  size_t        stride,
                  int64_t       n_rows,
                  int64_t       n,
                  const float * x,
                  float *       y,
                  void * /* tmp */) {
    int64_t r = 0;
    for (; r + DOT_ROWS<block> <= n_rows; r += DOT_ROWS<block>) {
        dot_rows<DOT_ROWS<block>, block>(rows + r * stride, stride, n, x, y + r);
    }
    for (; r < n_rows; r++) {
        dot_rows<1, block>(rows + r * stride, stride, n, x, y + r);
    }
}

#endif

// the 6-bit scale and min of sub-block j of 8
void scale_min(const uint8_t * s, int j, int & scale, int & min) {
    if (j < 4) {
        scale = s[j] & 63;
        min   = s[j + 4] & 63;
    } else {
        scale = (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4);
        min   = (s[j + 4] >> 4) | ((s[j] >> 6) << 4);
    }
}

// sub-blocks come in pairs that share their bytes: low nibbles, high nibbles
void expand_pair(const block_q4_K & b, int pair, float * y) {
    const float     d    = GGML_CPU_FP16_TO_FP32(b.d);
    const float     dmin = GGML_CPU_FP16_TO_FP32(b.dmin);
    const uint8_t * q    = b.qs + 32 * pair;
    for (int half = 0; half < 2; half++, y += 32) {
        int scale;
        int min;
        scale_min(b.scales, 2 * pair + half, scale, min);
        const float a = d * scale;
        const float c = dmin * min;
        int8_t      v[32];
        for (int j = 0; j < 32; j++) {
            v[j] = (q[j] >> (4 * half)) & 15;
        }
        for (int j = 0; j < 32; j += VW) {
            vf_store(y + j, a * vf_from_i8(v + j) - c);
        }
    }
}

// half a super-block: 128 values in four runs of 32, two scales a run
void expand_half(const block_q6_K & b, int half, float * y) {
    const float     d  = GGML_CPU_FP16_TO_FP32(b.d);
    const uint8_t * ql = b.ql + 64 * half;
    const uint8_t * qh = b.qh + 32 * half;
    const int8_t *  sc = b.scales + 8 * half;
    for (int run = 0; run < 4; run++, y += 32) {
        const uint8_t * low   = ql + 32 * (run % 2);
        const int       shift = 4 * (run / 2);
        int8_t          v[32];
        for (int j = 0; j < 32; j++) {
            v[j] = (int8_t) ((((low[j] >> shift) & 15) | (((qh[j] >> (2 * run)) & 3) << 4)) - 32);
        }
        for (int j = 0; j < 32; j += VW) {
            vf_store(y + j, d * sc[2 * run + j / 16] * vf_from_i8(v + j));
        }
    }
}

#if defined(PLM_HEAD_VNNI)

// 64 values in 15 bits, scale * (128 hi + lo), for VPDPBUSD, whose other operand is unsigned: what flipping the
// sign bit of the weights adds, `zero` takes off again
struct fixed_group {
    int8_t  hi[64];
    int8_t  lo[64];
    int32_t zero[16];
    float   scale;
    int32_t pad[15];  // to whole cache lines
};

static_assert(sizeof(fixed_group) <= 64 * sizeof(float), "it takes the place of a row of floats");

void to_fixed(const float * x, int64_t n, fixed_group * y) {
    constexpr int most = 127 * 128;
    for (int64_t i = 0; i < n / 64; i++, x += 64, y++) {
        __m512 max = _mm512_set1_ps(1e-30f);
        for (int j = 0; j < 64; j += 16) {
            max = _mm512_max_ps(max, _mm512_abs_ps(_mm512_loadu_ps(x + j)));
        }
        y->scale            = _mm512_reduce_max_ps(max) / most;
        const __m512 factor = _mm512_set1_ps(1.0f / y->scale);
        for (int j = 0; j < 64; j += 16) {
            const __m512i v  = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + j), factor));
            const __m512i hi = _mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(64)), 7);
            _mm_storeu_si128((__m128i *) (y->hi + j), _mm512_cvtepi32_epi8(hi));
            _mm_storeu_si128((__m128i *) (y->lo + j),
                             _mm512_cvtepi32_epi8(_mm512_sub_epi32(v, _mm512_slli_epi32(hi, 7))));
        }
        const __m512i flip = _mm512_set1_epi8((char) 0x80);
        const __m512i hi   = _mm512_dpbusd_epi32(_mm512_setzero_si512(), flip, _mm512_loadu_si512(y->hi));
        const __m512i lo   = _mm512_dpbusd_epi32(_mm512_setzero_si512(), flip, _mm512_loadu_si512(y->lo));
        _mm512_storeu_si512(y->zero,
                            _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_add_epi32(_mm512_slli_epi32(hi, 7), lo)));
    }
}

// y[r] = row r . x, two blocks at a time
void dot_fixed(const char * rows, size_t stride, int64_t n_rows, int64_t n, const fixed_group * x, float * y) {
    const __m512i flip = _mm512_set1_epi8((char) 0x80);
    for (int64_t r = 0; r < n_rows; r++) {
        const block_q8_0 * w   = (const block_q8_0 *) (rows + r * stride);
        __m512             sum = _mm512_setzero_ps();
        for (int64_t i = 0; i < n / 64; i++, w += 2) {
            const __m512i first = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *) w[0].qs));
            const __m512i both  = _mm512_inserti64x4(first, _mm256_loadu_si256((const __m256i *) w[1].qs), 1);
            const __m512i u     = _mm512_xor_si512(both, flip);
            const __m512i hi    = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u, _mm512_loadu_si512(x[i].hi));
            const __m512i lo    = _mm512_dpbusd_epi32(_mm512_loadu_si512(x[i].zero), u, _mm512_loadu_si512(x[i].lo));
            const __m512  dot   = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(hi, 7), lo));
            const __m256i d     = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi16((short) w[0].d)),
                                                          _mm_set1_epi16((short) w[1].d), 1);
            sum = _mm512_fmadd_ps(dot, _mm512_mul_ps(_mm512_cvtph_ps(d), _mm512_set1_ps(x[i].scale)), sum);
        }
        y[r] = _mm512_reduce_add_ps(sum);
    }
}

#endif

}  // namespace

int64_t row_unit(ggml_type type) {
    switch (type) {
        case GGML_TYPE_Q4_K:
            return 64;
        case GGML_TYPE_Q6_K:
            return 128;
        default:
            return ggml_blck_size(type);
    }
}

void row_to_f32(ggml_type type, const void * row, int64_t first, int64_t n, float * dst) {
    const char * src = (const char *) row + first / ggml_blck_size(type) * ggml_type_size(type);
    switch (type) {
        case GGML_TYPE_F32:
            memcpy(dst, src, n * sizeof(float));
            break;
        case GGML_TYPE_F16:
            ggml_cpu_fp16_to_fp32((const ggml_fp16_t *) src, dst, n);
            break;
        case GGML_TYPE_BF16:
            ggml_cpu_bf16_to_fp32((const ggml_bf16_t *) src, dst, n);
            break;
        case GGML_TYPE_Q8_0:
            expand((const block_q8_0 *) src, n / QK8_0, dst);
            break;
        case GGML_TYPE_Q4_0:
            expand((const block_q4_0 *) src, n / QK4_0, dst);
            break;
        case GGML_TYPE_Q4_K:
            for (int64_t i = first / 64; i < (first + n) / 64; i++, dst += 64) {
                expand_pair(((const block_q4_K *) row)[i / 4], i % 4, dst);
            }
            break;
        case GGML_TYPE_Q6_K:
            for (int64_t i = first / 128; i < (first + n) / 128; i++, dst += 128) {
                expand_half(((const block_q6_K *) row)[i / 2], i % 2, dst);
            }
            break;
        default:
            ggml_get_type_traits(type)->to_float(src, dst, n);
    }
}

void head_dot_rows(const ggml_tensor * w,
                   int64_t             head,
                   int64_t             begin,
                   int64_t             end,
                   const float *       x,
                   int64_t             x_stride,
                   int64_t             n_tokens,
                   token_vectors       y,
                   float *             tmp) {
    const int64_t n    = w->ne[0];
    const char *  data = (const char *) w->data + head * w->nb[2];
#if defined(PLM_HEAD_VNNI)
    if (n_tokens == 1 && w->type == GGML_TYPE_Q8_0 && n % 64 == 0) {
        to_fixed(x, n, (fixed_group *) tmp);
        dot_fixed(data + begin * w->nb[1], w->nb[1], end - begin, n, (fixed_group *) tmp, y.data);
        return;
    }
#endif
    if (n_tokens <= DOT_TOKENS && (w->type == GGML_TYPE_Q8_0 || w->type == GGML_TYPE_Q4_0)) {
        const auto f = w->type == GGML_TYPE_Q8_0 ? dot_all_rows<block_q8_0> : dot_all_rows<block_q4_0>;
        for (int64_t t = 0; t < n_tokens; t++) {
            f(data + begin * w->nb[1], w->nb[1], end - begin, n, x + t * x_stride, y.data + t * y.stride, tmp);
        }
        return;
    }
    for (int64_t r = begin; r < end; r++) {
        row_to_f32(w->type, data + r * w->nb[1], 0, n, tmp);
        for (int64_t t = 0; t < n_tokens; t++) {
            y.data[t * y.stride + r - begin] = dot_f32(tmp, x + t * x_stride, n);
        }
    }
}

void head_axpy_rows(const ggml_tensor * w,
                    int64_t             head,
                    int64_t             begin,
                    int64_t             end,
                    const float *       x,
                    int64_t             x_stride,
                    int64_t             n_tokens,
                    token_vectors       y,
                    float *             tmp) {
    const int64_t n    = end - begin;
    const char *  data = (const char *) w->data + head * w->nb[2];
    for (int64_t t = 0; t < n_tokens; t++) {
        memset(y.data + t * y.stride, 0, n * sizeof(float));
    }
    for (int64_t r = 0; r < w->ne[1]; r++) {
        row_to_f32(w->type, data + r * w->nb[1], begin, n, tmp);
        for (int64_t t = 0; t < n_tokens; t++) {
            axpy_f32(y.data + t * y.stride, x[t * x_stride + r], tmp, n);
        }
    }
}

}  // namespace plm

namespace {

// every piece of work is a run of `unit` outputs of one head; a thread takes consecutive pieces
int64_t output_unit(const ggml_tensor * w, bool trans) {
    return trans ? plm::row_unit(w->type) : 1;
}

size_t row_bytes(const ggml_tensor * w) {
    return GGML_PAD(w->ne[0] * sizeof(float), 64);
}

}  // namespace

void ggml_compute_forward_plm_head_matvec(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * w     = dst->src[0];
    const ggml_tensor * x     = dst->src[1];
    const bool          trans = ggml_get_op_params_i32(dst, 1) != 0;

    const int64_t    unit     = output_unit(w, trans);
    const int64_t    per_head = dst->ne[0] / unit;
    const plm::range mine     = plm::share(w->ne[2] * per_head, params->ith, params->nth);
    float *          tmp      = (float *) ((char *) params->wdata + params->ith * row_bytes(w));

    for (int64_t i = mine.begin; i < mine.end;) {
        const int64_t h     = i / per_head;
        const int64_t stop  = (h + 1) * per_head < mine.end ? (h + 1) * per_head : mine.end;
        const int64_t begin = (i - h * per_head) * unit;
        const int64_t end   = (stop - h * per_head) * unit;

        const float * in  = (const float *) ((const char *) x->data + h * x->nb[2]);
        float *       out = (float *) ((char *) dst->data + h * dst->nb[2]) + begin;

        const plm::token_vectors y = { out, (int64_t) (dst->nb[1] / sizeof(float)) };
        const auto               f = trans ? plm::head_axpy_rows : plm::head_dot_rows;
        f(w, h, begin, end, in, x->nb[1] / sizeof(float), x->ne[1], y, tmp);
        i = stop;
    }
}

size_t ggml_plm_head_matvec_work_size(const ggml_tensor * node, int n_tasks) {
    return n_tasks * row_bytes(node->src[0]);
}
