// GGML_PLM_SPARSE_FFN and GGML_PLM_SPARSE_DOWN: picks the way for the number of tokens.

#include "dense_dot.h"
#include "kernels.h"
#include "sparse_decode.h"
#include "sparse_prefill.h"

namespace {

plm::ffn_source ffn_source_of(const ggml_tensor * node) {
    return { node->src[0], node->src[1], nullptr, node->src[2] };
}

plm::ffn_source down_source_of(const ggml_tensor * node) {
    return { nullptr, nullptr, node->src[1], node->src[0] };
}

bool is_few(const plm::ffn_source & src) {
    return src.n_tokens() <= plm::DOT_MAX_TOKENS;
}

size_t work_size(const plm::ffn_source & src, int n_tasks) {
    return is_few(src) ? plm::decode_work_size(src, n_tasks) : plm::prefill_work_size(src, n_tasks);
}

void forward(const ggml_compute_params * params, const plm::ffn_source & src, ggml_tensor * dst) {
    if (is_few(src)) {
        plm::decode_tokens(params, src, dst);
    } else {
        plm::prefill_tokens(params, src, dst);
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
