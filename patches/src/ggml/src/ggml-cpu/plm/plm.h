#pragma once

// The three places where ggml-cpu.c calls into the PLM kernels.

#include "ggml.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_compute_params;

void   ggml_plm_forward(const struct ggml_compute_params * params, struct ggml_tensor * dst);
int    ggml_plm_n_tasks(const struct ggml_tensor * node, int n_threads);
size_t ggml_plm_work_size(const struct ggml_tensor * node, int n_tasks);

#ifdef __cplusplus
}
#endif
