#pragma once

// Weights times many activation rows, for prompts. The weights stay in the file's layout; a chunk of rows is
// unpacked into bytes that fit L2, and all tokens then go over it in tiles whose sums live in registers.
// Activations are quantized as the weight type's vec_dot_type says, the same numbers ggml's mul_mat uses.

#include "ggml.h"

#include <cstddef>
#include <cstdint>

namespace plm {

// rows unpacked at a time
constexpr int64_t GEMM_ROWS = 128;

// whether this CPU has a kernel for the type; without one ggml's own mul_mat, on repacked weights, is faster
bool gemm_has_kernel(ggml_type type);

// tokens per register tile
int64_t gemm_tile_tokens(ggml_type type);

// the packed activations of n_tokens rows
size_t gemm_input_size(ggml_type type, int64_t k, int64_t n_tokens);

// packs tile ith, ith + nth, ... of x's rows first .. first + n_tokens
void gemm_pack_inputs(ggml_type           type,
                      const ggml_tensor * x,
                      int64_t             first,
                      int64_t             n_tokens,
                      void *              inputs,
                      int                 ith,
                      int                 nth);

// scratch for one chunk of unpacked rows, per thread
size_t gemm_scratch_size(ggml_type type, int64_t k);

// rows begin .. begin + n of w, ready for gemm_tile; n <= GEMM_ROWS
struct gemm_rows {
    const ggml_tensor * w;
    int64_t             begin;
    int64_t             n;
    const void *        packed;
};

gemm_rows gemm_pack_rows(const ggml_tensor * w, int64_t begin, int64_t n, void * scratch);

// out[t * stride + r] for the n_tokens tokens of one tile and all rows of the chunk
void gemm_tile(const gemm_rows & rows,
               const void *      inputs,
               int64_t           tile,
               int64_t           n_tokens,
               float *           out,
               int64_t           stride);

}  // namespace plm
