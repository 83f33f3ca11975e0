#pragma once

// Operations for PLM (Peripheral Language Model): latent attention and the squared-ReLU FFN.
//
// They share one ggml_op, GGML_OP_PLM; the kind sits in op_params[0]. A new kernel is a new file in
// ggml-cpu/plm/ and a row in its dispatch table, and does not touch ggml's own tables again.
// Only the CPU backend runs them.

#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ggml_plm_kind {
    GGML_PLM_SPARSE_FFN = 0,
    GGML_PLM_SPARSE_DOWN,
    GGML_PLM_LATENT_ATTN,
    GGML_PLM_HEAD_MATVEC,
    GGML_PLM_MUL_MAT,

    GGML_PLM_KIND_COUNT,
};

// a word for logs and profiles, e.g. "sparse_ffn"
GGML_API const char * ggml_plm_kind_name(enum ggml_plm_kind kind);

// down^T * relu(up * x)^2; rows of down whose activation is exactly zero are never read
//   up   {n_embd, n_ff}     any type with a CPU vec_dot
//   x    {n_embd, n_tokens} f32
//   down {n_embd, n_ff}     neuron-major: row i is what neuron i adds to the residual stream
//   ->   {n_embd, n_tokens} f32
GGML_API struct ggml_tensor * ggml_plm_sparse_ffn(struct ggml_context * ctx,
                                                  struct ggml_tensor *  up,
                                                  struct ggml_tensor *  x,
                                                  struct ggml_tensor *  down);

// down^T * act, for an up projection that was computed elsewhere
//   down {n_embd, n_ff}     neuron-major
//   act  {n_ff, n_tokens}   f32, exact zeros are skipped
//   ->   {n_embd, n_tokens} f32
GGML_API struct ggml_tensor * ggml_plm_sparse_down(struct ggml_context * ctx,
                                                   struct ggml_tensor *  down,
                                                   struct ggml_tensor *  act);

// attention over latent cache rows [normed latent | rotated k_pe], every head of a token at once;
// it includes the per-head up projections, so that the kernel is free to absorb them into q and the
// output (few tokens) or to rebuild K and V tile by tile (many tokens)
//   q     {nope + rope, n_head, n_tokens}       f32, RoPE applied to the trailing rope values;
//                                               tokens are grouped by stream
//   cache {rank + rope, n_kv, n_stream}         f32, f16, bf16 or q8_0
//   mask  {n_kv, n_tokens/n_stream, 1, n_stream} f16 or f32, added to the scaled scores; -inf hides a row
//   k_b   {nope, rank, n_head}, or {rank, nope, n_head} when k_b_trans: k_b * q_nope is the absorbed q
//   v_b   {rank, v, n_head}
//   ->    {v, n_head, n_tokens}                 f32
// k_b and v_b may be views with gaps between heads (both halves of a stock attn_kv_b).
GGML_API struct ggml_tensor * ggml_plm_latent_attn(struct ggml_context * ctx,
                                                   struct ggml_tensor *  q,
                                                   struct ggml_tensor *  cache,
                                                   struct ggml_tensor *  mask,
                                                   struct ggml_tensor *  k_b,
                                                   struct ggml_tensor *  v_b,
                                                   bool                  k_b_trans,
                                                   float                 scale);

// y[h] = w[h] * x[h] with small weights per head
//   w  {k, m, n_head}, or {m, k, n_head} when trans
//   x  {k, n_tokens, n_head} f32, rows contiguous
//   -> {m, n_tokens, n_head} f32
GGML_API struct ggml_tensor * ggml_plm_head_matvec(struct ggml_context * ctx,
                                                   struct ggml_tensor *  w,
                                                   struct ggml_tensor *  x,
                                                   bool                  trans);

// ggml_mul_mat for a weight that lies as it does in the file: one copy serves decoding, at memory speed, and
// prompts, packed tile by tile on the way
//   w  {k, m}        any type with a CPU vec_dot
//   x  {k, n_tokens} f32, rows contiguous
//   -> {m, n_tokens} f32
GGML_API struct ggml_tensor * ggml_plm_mul_mat(struct ggml_context * ctx,
                                               struct ggml_tensor *  w,
                                               struct ggml_tensor *  x);

#ifdef __cplusplus
}
#endif
