#pragma once

// Matrix times vector on ggml's repacked weights, for ARM CPUs with dotprod and without i8mm: the same numbers as
// upstream's loops in fewer instructions. Several interleaved groups of rows share the loads of the activations.

#include <cstdint>

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#    define PLM_REPACKED_GEMV

namespace plm {

// y[r] = row r . x for n_rows rows of k values; w is block_q4_0x4 (4 bytes of a row at a time), x is block_q8_0
void gemv_q4_0_4x4(int64_t k, const void * w, const void * x, int64_t n_rows, float * y);

// w is block_q6_Kx8 (4 bytes of a row at a time), x is block_q8_K
void gemv_q6_K_8x4(int64_t k, const void * w, const void * x, int64_t n_rows, float * y);

}  // namespace plm
#endif
