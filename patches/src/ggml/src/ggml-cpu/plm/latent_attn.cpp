// GGML_PLM_LATENT_ATTN: chooses how to compute it.

#include "latent_attn.h"

#include "kernels.h"

namespace {

// Few tokens: absorbed, a cache row is read once for all heads. Many: rebuild K and V per tile.
bool is_prefill(const plm::latent_problem & p) {
    return p.n_tps > 8;
}

}  // namespace

void ggml_compute_forward_plm_latent_attn(const ggml_compute_params * params, ggml_tensor * dst) {
    const plm::latent_problem p(dst);
    (is_prefill(p) ? plm::latent_attn_prefill : plm::latent_attn_decode)(params, p);
}

size_t ggml_plm_latent_attn_work_size(const ggml_tensor * node, int n_tasks) {
    const plm::latent_problem p(node);
    return (is_prefill(p) ? plm::latent_attn_prefill_work_size : plm::latent_attn_decode_work_size)(p, n_tasks);
}
