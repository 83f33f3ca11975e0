// GGML_PLM_LATENT_ATTN: chooses how to compute it.

#include "latent_attn.h"

#include "kernels.h"

namespace {

// Absorbed, a cache row costs more multiply-adds for every token; rebuilt, it costs a lot once. The weights
// are measured (Zen 5, 2026-11, depths 0 and 2048, 16 to 256 tokens): absorbing a query is 16 times slower a
// multiply-add than the block kernels, preparing a head's weights costs as much as 16 rows, and past 64
// tokens the absorbed partial results, 33 kB a token, fall out of the cache.
bool is_prefill(const plm::latent_problem & p) {
    const int64_t up       = p.rank * (p.nope + p.v);
    const int64_t absorbed = p.n_tps * (p.n_kv * (2 * p.rank + p.rope) + 16 * up);
    const int64_t rebuilt  = (p.n_kv + 16) * up + p.n_tps * p.n_kv * (p.nope + p.rope + p.v);
    return p.n_tps > 64 || (p.n_tps > 8 && 3 * rebuilt < 2 * absorbed);
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
