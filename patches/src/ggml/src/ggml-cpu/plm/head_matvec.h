#pragma once

// Small per-head weights {k, m, n_head} of any type times a few vectors. The rows are expanded to float in
// cache, so nothing is lost to a quantised activation, and read once for all tokens.

#include "ggml.h"

#include <cstdint>

namespace plm {

// values of one row that can be expanded without touching their neighbours; divides the row length
int64_t row_unit(ggml_type type);

// dst[0..n) = values [first, first + n) of a row; first and n are multiples of row_unit(type)
void row_to_f32(ggml_type type, const void * row, int64_t first, int64_t n, float * dst);

// a vector per token: token t starts at data + t * stride
struct token_vectors {
    float * data;
    int64_t stride;  // floats from token to token
};

// y[t][r - begin] = w[head][r] . x[t] for rows begin..end; tmp holds one row
void head_dot_rows(const ggml_tensor * w,
                   int64_t             head,
                   int64_t             begin,
                   int64_t             end,
                   const float *       x,
                   int64_t             x_stride,
                   int64_t             n_tokens,
                   token_vectors       y,
                   float *             tmp);

// y[t][c] = sum over rows r of x[t][r] * w[head][r][begin + c], columns begin..end
void head_axpy_rows(const ggml_tensor * w,
                    int64_t             head,
                    int64_t             begin,
                    int64_t             end,
                    const float *       x,
                    int64_t             x_stride,
                    int64_t             n_tokens,
                    token_vectors       y,
                    float *             tmp);

}  // namespace plm
