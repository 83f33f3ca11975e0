#pragma once

// Weights rearranged at load for ARM CPUs with dotprod and without i8mm. Rows share bytes: all bits of a byte meet the
// same activation, so the parts that belong to one row need not be moved apart before they are multiplied.

#include <cstddef>
#include <cstdint>

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && !defined(__ARM_FEATURE_MATMUL_INT8)
#    define PLM_REPACKED_ROWS

namespace plm {

// rows that one rearranged block holds; their number must be a multiple of it
constexpr int64_t REPACKED_ROWS_Q4_0 = 8;
constexpr int64_t REPACKED_ROWS_Q6_K = 16;

// rows of k values as they are in the file -> as many bytes
void repack_q4_0(int64_t k, int64_t n_rows, const void * src, void * dst);
void repack_q6_K(int64_t k, int64_t n_rows, const void * src, void * dst);

// y[r] = row r . x; x is block_q8_0 or block_q8_K
void gemv_q4_0(int64_t k, const void * w, const void * x, int64_t n_rows, float * y);
void gemv_q6_K(int64_t k, const void * w, const void * x, int64_t n_rows, float * y);

// y[t * stride + r] = row r . x[t]; x is block_q8_0x4 or block_q8_Kx4 with 4 bytes of a token at a time, n_tokens a
// multiple of 4
void gemm_q4_0(int64_t k, const void * w, const void * x, int64_t n_rows, int64_t n_tokens, float * y, size_t stride);
void gemm_q6_K(int64_t k, const void * w, const void * x, int64_t n_rows, int64_t n_tokens, float * y, size_t stride);

}  // namespace plm
#endif
