#pragma once

// The FFN of a few tokens: `up` is read once for all of them, `down` only where some neuron fired.

#include "ggml.h"

#include <cstddef>
#include <cstdint>

struct ggml_compute_params;

namespace plm {

// where the activations come from: up and x (SPARSE_FFN), or act (SPARSE_DOWN)
struct ffn_source {
    const ggml_tensor * up;
    const ggml_tensor * x;
    const ggml_tensor * act;
    const ggml_tensor * down;

    int64_t n_ff() const { return down->ne[1]; }

    int64_t n_embd() const { return down->ne[0]; }

    int64_t n_tokens() const { return up ? x->ne[1] : act->ne[1]; }
};

size_t decode_work_size(const ffn_source & src, int64_t n_tokens, int n_tasks);

// tokens begin .. begin + n of the source
void decode_tokens(const ggml_compute_params * params,
                   const ffn_source &          src,
                   int64_t                     begin,
                   int64_t                     n,
                   ggml_tensor *               dst);

}  // namespace plm
