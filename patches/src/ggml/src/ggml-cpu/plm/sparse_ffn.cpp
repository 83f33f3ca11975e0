// GGML_PLM_SPARSE_FFN and GGML_PLM_SPARSE_DOWN, portable: the rows of dead neurons are not read, the rest
// goes through the type's own vec_dot and to_float.

#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "ggml-plm.h"
#include "kernels.h"

#include <cstring>

namespace {

struct range {
    int64_t begin;
    int64_t end;
};

range share(int64_t n, const ggml_compute_params * params) {
    return { n * params->ith / params->nth, n * (params->ith + 1) / params->nth };
}

size_t align(size_t size) {
    return GGML_PAD(size, 64);
}

// one row of x in the type that the weights' vec_dot wants
size_t dot_row_size(const ggml_tensor * weights, const ggml_tensor * x) {
    return ggml_row_size(ggml_get_type_traits_cpu(weights->type)->vec_dot_type, x->ne[0]);
}

void convert_rows(const ggml_compute_params * params, const ggml_tensor * weights, const ggml_tensor * x, char * out) {
    const ggml_type dot_type = ggml_get_type_traits_cpu(weights->type)->vec_dot_type;
    const auto      convert  = ggml_get_type_traits_cpu(dot_type)->from_float;
    const size_t    row_size = dot_row_size(weights, x);

    for (int64_t t = params->ith; t < x->ne[1]; t += params->nth) {
        const float * row = (const float *) ((const char *) x->data + t * x->nb[1]);
        if (dot_type == GGML_TYPE_F32) {
            memcpy(out + t * row_size, row, row_size);
        } else {
            convert(row, out + t * row_size, x->ne[0]);
        }
    }
}

// act[t][i] = relu(up[i] * x[t])^2
void up_relu_sqr(const ggml_compute_params * params,
                 const ggml_tensor *         up,
                 const char *                x,
                 size_t                      x_row_size,
                 int64_t                     n_tokens,
                 float *                     act) {
    const auto    vec_dot = ggml_get_type_traits_cpu(up->type)->vec_dot;
    const int64_t n_embd  = up->ne[0];
    const int64_t n_ff    = up->ne[1];
    const range   rows    = share(n_ff, params);

    for (int64_t i = rows.begin; i < rows.end; i++) {
        const char * row = (const char *) up->data + i * up->nb[1];
        for (int64_t t = 0; t < n_tokens; t++) {
            float y;
            vec_dot(n_embd, &y, 0, row, 0, x + t * x_row_size, 0, 1);
            act[t * n_ff + i] = y > 0.0f ? y * y : 0.0f;
        }
    }
}

// every thread owns a range of output columns, whole blocks of the weight type, for all tokens
void down(const ggml_compute_params * params,
          const ggml_tensor *         w,
          const float *               act,
          int64_t                     act_stride,
          char *                      dst,
          size_t                      dst_stride,
          int64_t                     n_tokens,
          float *                     tmp) {
    const auto    to_float = ggml_get_type_traits(w->type)->to_float;
    const int64_t block    = ggml_blck_size(w->type);
    const range   blocks   = share(w->ne[0] / block, params);
    const int64_t n        = (blocks.end - blocks.begin) * block;
    const size_t  offset   = blocks.begin * ggml_type_size(w->type);

    if (n == 0) {
        return;
    }
    for (int64_t t = 0; t < n_tokens; t++) {
        float * y = (float *) (dst + t * dst_stride) + blocks.begin * block;
        memset(y, 0, n * sizeof(float));
        for (int64_t i = 0; i < w->ne[1]; i++) {
            const float a = act[t * act_stride + i];
            if (a == 0.0f) {
                continue;
            }
            const char *  row = (const char *) w->data + i * w->nb[1] + offset;
            const float * v   = (const float *) row;
            if (w->type != GGML_TYPE_F32) {
                to_float(row, tmp, n);
                v = tmp;
            }
            for (int64_t j = 0; j < n; j++) {
                y[j] += a * v[j];
            }
        }
    }
}

float * thread_row(void * base, const ggml_compute_params * params, int64_t n) {
    return (float *) ((char *) base + params->ith * align(n * sizeof(float)));
}

}  // namespace

void ggml_compute_forward_plm_sparse_ffn(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * up = dst->src[0];
    const ggml_tensor * x  = dst->src[1];
    const ggml_tensor * w  = dst->src[2];

    const int64_t n_tokens   = x->ne[1];
    const int64_t n_ff       = up->ne[1];
    const size_t  x_row_size = dot_row_size(up, x);

    char *  xq  = (char *) params->wdata;
    float * act = (float *) (xq + align(n_tokens * x_row_size));
    char *  tmp = (char *) act + align(n_tokens * n_ff * sizeof(float));

    convert_rows(params, up, x, xq);
    ggml_barrier(params->threadpool);
    up_relu_sqr(params, up, xq, x_row_size, n_tokens, act);
    ggml_barrier(params->threadpool);
    down(params, w, act, n_ff, (char *) dst->data, dst->nb[1], n_tokens, thread_row(tmp, params, w->ne[0]));
}

size_t ggml_plm_sparse_ffn_work_size(const ggml_tensor * node, int n_tasks) {
    const ggml_tensor * up = node->src[0];
    const ggml_tensor * x  = node->src[1];

    return align(x->ne[1] * dot_row_size(up, x)) + align(x->ne[1] * up->ne[1] * sizeof(float)) +
           n_tasks * align(up->ne[0] * sizeof(float));
}

void ggml_compute_forward_plm_sparse_down(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * w   = dst->src[0];
    const ggml_tensor * act = dst->src[1];

    down(params, w, (const float *) act->data, act->nb[1] / sizeof(float), (char *) dst->data, dst->nb[1], act->ne[1],
         thread_row(params->wdata, params, w->ne[0]));
}

size_t ggml_plm_sparse_down_work_size(const ggml_tensor * node, int n_tasks) {
    return n_tasks * align(node->src[0]->ne[0] * sizeof(float));
}
