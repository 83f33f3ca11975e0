#pragma once

// Sums of scaled weight rows: the down projection of the few neurons that fired. Several rows go through one
// pass over the fp32 accumulator, so that it is loaded and stored once for all of them, while the rows of the
// next pass are prefetched: rows start at scattered addresses that no hardware prefetcher can guess.

#include "ggml.h"

#include <cstdint>

namespace plm {

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
constexpr int AXPY_MAX_ROWS = 64;
#else
constexpr int AXPY_MAX_ROWS = 8;
#endif

// Fixed point wants scales of one magnitude together: this is how far apart those of one pass may be, and how many
// magnitudes are told apart. Elsewhere the order of the rows does not matter.
constexpr float AXPY_RANGE  = 64.0f;
constexpr int   AXPY_LEVELS = AXPY_MAX_ROWS > 8 ? 4 : 1;

struct axpy_rows {
    const char * row[AXPY_MAX_ROWS];
    float        scale[AXPY_MAX_ROWS];
    int          n = 0;
};

// acc[i] += sum over rows of scale * row[i], i < n; reads n values of each row, n a multiple of the block size
void axpy(ggml_type type, const axpy_rows & rows, const axpy_rows & next, int64_t n, float * acc);

// dst[i] = row[i]
void dequantize(ggml_type type, const char * row, int64_t n, float * dst);

}  // namespace plm
