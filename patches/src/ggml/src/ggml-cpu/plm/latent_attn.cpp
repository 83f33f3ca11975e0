// GGML_PLM_LATENT_ATTN: chooses how to compute it.

#include "latent_attn.h"

#include "kernels.h"

void ggml_compute_forward_plm_latent_attn(const ggml_compute_params * params, ggml_tensor * dst) {
    plm::latent_attn_decode(params, plm::latent_problem(dst));
}

size_t ggml_plm_latent_attn_work_size(const ggml_tensor * node, int n_tasks) {
    return plm::latent_attn_decode_work_size(plm::latent_problem(node), n_tasks);
}
