#pragma once

// Where the activations of the FFN come from: up and x (SPARSE_FFN), or act (SPARSE_DOWN).

#include "ggml.h"

#include <cstdint>

namespace plm {

struct ffn_source {
    const ggml_tensor * up;
    const ggml_tensor * x;
    const ggml_tensor * act;
    const ggml_tensor * down;

    int64_t n_ff() const { return down->ne[1]; }

    int64_t n_embd() const { return down->ne[0]; }

    int64_t n_tokens() const { return up ? x->ne[1] : act->ne[1]; }
};

}  // namespace plm
