// GGML_PLM_SPARSE_FFN and GGML_PLM_SPARSE_DOWN: picks the way for the number of tokens.

#include "dense_dot.h"
#include "dense_work.h"
#include "ggml-cpu-impl.h"
#include "kernels.h"
#include "sparse_decode.h"

#include <algorithm>

namespace {

plm::ffn_source ffn_source_of(const ggml_tensor * node) {
    return { node->src[0], node->src[1], nullptr, node->src[2] };
}

plm::ffn_source down_source_of(const ggml_tensor * node) {
    return { nullptr, nullptr, node->src[1], node->src[0] };
}

size_t work_size(const plm::ffn_source & src, int n_tasks) {
    return plm::work_request(plm::decode_work_size(src, std::min(src.n_tokens(), plm::DOT_MAX_TOKENS), n_tasks));
}

void forward(const ggml_compute_params * params, const plm::ffn_source & src, ggml_tensor * dst) {
    for (int64_t t = 0; t < src.n_tokens(); t += plm::DOT_MAX_TOKENS) {
        if (t > 0) {
            ggml_barrier(params->threadpool);
        }
        plm::decode_tokens(params, src, t, std::min(plm::DOT_MAX_TOKENS, src.n_tokens() - t), dst);
    }
}

}  // namespace

void ggml_compute_forward_plm_sparse_ffn(const ggml_compute_params * params, ggml_tensor * dst) {
    forward(params, ffn_source_of(dst), dst);
}

size_t ggml_plm_sparse_ffn_work_size(const ggml_tensor * node, int n_tasks) {
    return work_size(ffn_source_of(node), n_tasks);
}

void ggml_compute_forward_plm_sparse_down(const ggml_compute_params * params, ggml_tensor * dst) {
    forward(params, down_source_of(dst), dst);
}

size_t ggml_plm_sparse_down_work_size(const ggml_tensor * node, int n_tasks) {
    return work_size(down_source_of(node), n_tasks);
}
