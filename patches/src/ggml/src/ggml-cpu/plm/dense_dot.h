#pragma once

// Dot products of whole weight rows with a few activation rows: what decoding a token spends its time on.
//
// Activations are quantized exactly as the weight type's vec_dot_type says (so results differ from ggml's
// mul_mat by the order of float additions alone), then laid out once for the kernel that reads them.

#include "ggml.h"

#include <cstddef>
#include <cstdint>

namespace plm {

// more tokens than this are cheaper through dense_gemm.h
constexpr int64_t DOT_MAX_TOKENS = 8;

size_t dot_input_size(ggml_type type, int64_t k);
void   dot_input_prepare(ggml_type type, const float * x, void * input, int64_t k);

// n_tokens prepared rows, stride bytes apart
struct dot_inputs {
    const char * data;
    size_t       stride;
    int64_t      n_tokens;
};

// out[t * out_stride + r - row_begin] = w[r] . inputs[t]
void dot_rows(const ggml_tensor * w,
              int64_t             row_begin,
              int64_t             row_end,
              const dot_inputs &  inputs,
              float *             out,
              int64_t             out_stride);

}  // namespace plm
