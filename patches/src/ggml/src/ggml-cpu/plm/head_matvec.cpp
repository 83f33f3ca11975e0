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

namespace plm {

namespace {

// the 32 small integers of a block
struct quants_q8_0 {
    const int8_t * q;

    explicit quants_q8_0(const block_q8_0 & b) : q(b.qs) {}
};

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
};

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
            vf_store(y + j, d * vf_from_i8(quants.q + j));
        }
    }
}

// without the detour over an expanded row
template <class block> float dot_blocks(const block * b, int64_t n_blocks, const float * x) {
    vf sum[2] = {};
    for (int64_t i = 0; i < n_blocks; i++, x += 32) {
        const auto quants   = quants_of(b[i]);
        vf         products = {};
        for (int j = 0; j < 32; j += VW) {
            products += vf_from_i8(quants.q + j) * vf_load(x + j);
        }
        sum[i % 2] += products * GGML_CPU_FP16_TO_FP32(b[i].d);
    }
    return vf_sum(sum[0] + sum[1]);
}

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
        const float a     = d * scale;
        const float c     = dmin * min;
        const int   shift = 4 * half;
        for (int j = 0; j < 32; j++) {
            y[j] = a * ((q[j] >> shift) & 15) - c;
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
        for (int part = 0; part < 2; part++) {
            const float a = d * sc[2 * run + part];
            for (int j = 16 * part; j < 16 * part + 16; j++) {
                const int q = ((low[j] >> shift) & 15) | (((qh[j] >> (2 * run)) & 3) << 4);
                y[j]        = a * (q - 32);
            }
        }
    }
}

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
    for (int64_t r = begin; r < end; r++) {
        const char * row = data + r * w->nb[1];
        float *      out = y.data + r - begin;
        if (n_tokens == 1 && w->type == GGML_TYPE_Q8_0) {
            *out = dot_blocks((const block_q8_0 *) row, n / 32, x);
            continue;
        }
        if (n_tokens == 1 && w->type == GGML_TYPE_Q4_0) {
            *out = dot_blocks((const block_q4_0 *) row, n / 32, x);
            continue;
        }
        row_to_f32(w->type, row, 0, n, tmp);
        for (int64_t t = 0; t < n_tokens; t++) {
            out[t * y.stride] = dot_f32(tmp, x + t * x_stride, n);
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
