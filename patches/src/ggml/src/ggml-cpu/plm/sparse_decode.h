#pragma once

// The FFN of a few tokens: `up` is read once for all of them, `down` only where some neuron fired.

#include "sparse_source.h"

#include <cstddef>

struct ggml_compute_params;

namespace plm {

size_t decode_work_size(const ffn_source & src, int n_tasks);

void decode_tokens(const ggml_compute_params * params, const ffn_source & src, ggml_tensor * dst);

}  // namespace plm
