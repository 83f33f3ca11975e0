#pragma once

// The places where the CPU backend calls into the PLM kernels.

#include "ggml.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_compute_params;

void   ggml_plm_forward(const struct ggml_compute_params * params, struct ggml_tensor * dst);
int    ggml_plm_n_tasks(const struct ggml_tensor * node, int n_threads);
size_t ggml_plm_work_size(const struct ggml_tensor * node, int n_tasks);
bool   ggml_plm_supports_op(const struct ggml_tensor * node);

#ifdef __cplusplus
}
#endif
