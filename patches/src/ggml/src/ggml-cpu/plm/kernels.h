#pragma once

// What each PLM kernel offers to the dispatch in plm.cpp: the computation, called by every thread of the
// graph, and the bytes of params->wdata it wants when n_tasks threads run it.

#include "ggml.h"

#include <cstddef>

struct ggml_compute_params;

void   ggml_compute_forward_plm_sparse_ffn(const ggml_compute_params * params, ggml_tensor * dst);
size_t ggml_plm_sparse_ffn_work_size(const ggml_tensor * node, int n_tasks);

void   ggml_compute_forward_plm_sparse_down(const ggml_compute_params * params, ggml_tensor * dst);
size_t ggml_plm_sparse_down_work_size(const ggml_tensor * node, int n_tasks);

void   ggml_compute_forward_plm_latent_attn(const ggml_compute_params * params, ggml_tensor * dst);
size_t ggml_plm_latent_attn_work_size(const ggml_tensor * node, int n_tasks);

void   ggml_compute_forward_plm_head_matvec(const ggml_compute_params * params, ggml_tensor * dst);
size_t ggml_plm_head_matvec_work_size(const ggml_tensor * node, int n_tasks);

void   ggml_compute_forward_plm_mul_mat(const ggml_compute_params * params, ggml_tensor * dst);
size_t ggml_plm_mul_mat_work_size(const ggml_tensor * node, int n_tasks);
