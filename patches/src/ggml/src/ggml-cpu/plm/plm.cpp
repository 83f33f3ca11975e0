// Dispatch of GGML_OP_PLM to its kernels. To add one: a kind in ggml-plm.h, a constructor in ggml-plm.c,
// a file here, two lines in kernels.h and a row below.

#include "plm.h"

#include "dense_gemm.h"
#include "ggml-cpu-impl.h"
#include "ggml-impl.h"
#include "ggml-plm.h"
#include "kernels.h"

namespace {

constexpr size_t WORK_ALIGNMENT = 64;

struct plm_kernel {
    void (*forward)(const ggml_compute_params * params, ggml_tensor * dst);
    size_t (*work_size)(const ggml_tensor * node, int n_tasks);
};

// in the order of enum ggml_plm_kind
constexpr plm_kernel kernels[] = {
    { ggml_compute_forward_plm_sparse_ffn,  ggml_plm_sparse_ffn_work_size  },
    { ggml_compute_forward_plm_sparse_down, ggml_plm_sparse_down_work_size },
    { ggml_compute_forward_plm_latent_attn, ggml_plm_latent_attn_work_size },
    { ggml_compute_forward_plm_head_matvec, ggml_plm_head_matvec_work_size },
    { ggml_compute_forward_plm_mul_mat,     ggml_plm_mul_mat_work_size     },
};
static_assert(sizeof(kernels) / sizeof(kernels[0]) == GGML_PLM_KIND_COUNT, "a kind without a kernel");

const plm_kernel & kernel_of(const ggml_tensor * node) {
    const int kind = ggml_get_op_params_i32(node, 0);
    GGML_ASSERT(kind >= 0 && kind < GGML_PLM_KIND_COUNT);
    return kernels[kind];
}

}  // namespace

// ggml's work buffer is only as aligned as new[] makes it; the kernels lay out cache lines and vectors in it
void ggml_plm_forward(const ggml_compute_params * params, ggml_tensor * dst) {
    ggml_compute_params aligned = *params;

    const size_t gap = GGML_PAD((uintptr_t) params->wdata, WORK_ALIGNMENT) - (uintptr_t) params->wdata;
    aligned.wdata    = (char *) params->wdata + gap;
    aligned.wsize -= gap;

    kernel_of(dst).forward(&aligned, dst);
}

// every thread takes part in every kernel: they meet at barriers inside
int ggml_plm_n_tasks(const ggml_tensor * node, int n_threads) {
    GGML_UNUSED(node);
    return n_threads;
}

// every kernel runs everywhere, but mul_mat has a rival: it is offered only where it is the faster one, which is
// how whoever loads a model learns in what kind of buffer to put the weights
bool ggml_plm_supports_op(const ggml_tensor * node) {
    return ggml_get_op_params_i32(node, 0) != GGML_PLM_MUL_MAT || plm::gemm_has_kernel(node->src[0]->type);
}

size_t ggml_plm_work_size(const ggml_tensor * node, int n_tasks) {
    return kernel_of(node).work_size(node, n_tasks) + WORK_ALIGNMENT;
}
