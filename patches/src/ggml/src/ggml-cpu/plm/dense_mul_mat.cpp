// GGML_PLM_MUL_MAT: a weight matrix, as it lies in the file, times activations.

#include "dense_dot.h"
#include "dense_gemm.h"
#include "ggml-cpu-impl.h"
#include "ggml-plm.h"
#include "kernels.h"

#include <algorithm>

namespace {

using namespace plm;

// rows of a chunk: few enough to share a small matrix evenly
constexpr int64_t CHUNK = 64;
static_assert(CHUNK <= GEMM_ROWS, "a chunk must fit its scratch");

constexpr int64_t LINE = 16;  // floats: two threads must not write to one cache line

// each thread prepares the inputs for itself, cheaper than a barrier
void few_tokens(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * w = dst->src[0];
    const ggml_tensor * x = dst->src[1];

    const size_t stride = dot_input_size(w->type, w->ne[0]);
    char *       data   = (char *) params->wdata + params->ith * x->ne[1] * stride;
    for (int64_t t = 0; t < x->ne[1]; t++) {
        dot_input_prepare(w->type, (const float *) ((const char *) x->data + t * x->nb[1]), data + t * stride,
                          w->ne[0]);
    }

    const int64_t lines = (w->ne[1] + LINE - 1) / LINE;
    const int64_t begin = lines * params->ith / params->nth * LINE;
    const int64_t end   = std::min(lines * (params->ith + 1) / params->nth * LINE, w->ne[1]);
    dot_rows(w, begin, end, { data, stride, x->ne[1] }, (float *) dst->data + begin, dst->nb[1] / sizeof(float));
}

// chunks of rows go to whichever thread is free
void many_tokens(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * w        = dst->src[0];
    const ggml_tensor * x        = dst->src[1];
    const int64_t       n_tokens = x->ne[1];
    const int64_t       per_tile = gemm_tile_tokens(w->type);
    const int64_t       stride   = dst->nb[1] / sizeof(float);

    char * inputs = (char *) params->wdata;
    char * scratch =
        inputs + gemm_input_size(w->type, w->ne[0], n_tokens) + params->ith * gemm_scratch_size(w->type, w->ne[0]);

    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    gemm_pack_inputs(w->type, x, 0, n_tokens, inputs, params->ith, params->nth);
    ggml_barrier(params->threadpool);

    for (int64_t chunk = params->ith; chunk * CHUNK < w->ne[1];
         chunk         = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t   begin = chunk * CHUNK;
        const gemm_rows rows  = gemm_pack_rows(w, begin, std::min(CHUNK, w->ne[1] - begin), scratch);
        for (int64_t t = 0; t < n_tokens; t += per_tile) {
            gemm_tile(rows, inputs, t / per_tile, std::min(per_tile, n_tokens - t),
                      (float *) dst->data + t * stride + begin, stride);
        }
    }
}

}  // namespace

void ggml_compute_forward_plm_mul_mat(const ggml_compute_params * params, ggml_tensor * dst) {
    if (dst->ne[1] <= DOT_MAX_TOKENS) {
        few_tokens(params, dst);
    } else {
        many_tokens(params, dst);
    }
}

size_t ggml_plm_mul_mat_work_size(const ggml_tensor * node, int n_tasks) {
    const ggml_tensor * w        = node->src[0];
    const int64_t       n_tokens = node->ne[1];
    if (n_tokens <= DOT_MAX_TOKENS) {
        return n_tasks * n_tokens * dot_input_size(w->type, w->ne[0]);
    }
    return gemm_input_size(w->type, w->ne[0], n_tokens) + n_tasks * gemm_scratch_size(w->type, w->ne[0]);
}
