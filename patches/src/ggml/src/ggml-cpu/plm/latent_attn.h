#pragma once

// What the attention paths share: the dimensions of one GGML_PLM_LATENT_ATTN node.

#include "ggml-impl.h"
#include "ggml.h"

#include <cstdint>

struct ggml_compute_params;

namespace plm {

struct latent_problem {
    const ggml_tensor * q;      // {nope + rope, n_head, n_tokens}
    const ggml_tensor * cache;  // {rank + rope, n_kv, n_stream}
    const ggml_tensor * mask;   // {n_kv, >= n_tps, 1, n_stream}
    const ggml_tensor * k_b;    // {nope, rank, n_head}, or {rank, nope, n_head} when k_b_trans
    const ggml_tensor * v_b;    // {rank, v, n_head}
    ggml_tensor *       dst;    // {v, n_head, n_tokens}

    bool  k_b_trans;
    float scale;

    int64_t rank;
    int64_t rope;
    int64_t nope;
    int64_t width;  // rank + rope
    int64_t v;
    int64_t n_head;
    int64_t n_tokens;
    int64_t n_stream;
    int64_t n_tps;  // tokens per stream
    int64_t n_kv;

    explicit latent_problem(const ggml_tensor * node) {
        q         = node->src[0];
        cache     = node->src[1];
        mask      = node->src[2];
        k_b       = node->src[3];
        v_b       = node->src[4];
        dst       = const_cast<ggml_tensor *>(node);
        scale     = ggml_get_op_params_f32(node, 1);
        k_b_trans = ggml_get_op_params_i32(node, 2) != 0;
        rank      = v_b->ne[0];
        width     = cache->ne[0];
        rope      = width - rank;
        nope      = q->ne[0] - rope;
        v         = v_b->ne[1];
        n_head    = q->ne[1];
        n_tokens  = q->ne[2];
        n_stream  = cache->ne[2];
        n_tps     = n_tokens / n_stream;
        n_kv      = cache->ne[1];
    }

    // whether 16-bit arithmetic will do: an f32 cache was asked for to keep every bit
    bool fits_short() const {
        return cache->type != GGML_TYPE_F32 && rank % 32 == 0 && rope % 32 == 0 && nope % 32 == 0 && v % 32 == 0;
    }

    const float * q_at(int64_t token, int64_t head) const {
        return (const float *) ((const char *) q->data + head * q->nb[1] + token * q->nb[2]);
    }

    const char * cache_row(int64_t stream, int64_t row) const {
        return (const char *) cache->data + row * cache->nb[1] + stream * cache->nb[2];
    }

    const char * mask_row(int64_t stream, int64_t token_in_stream) const {
        return (const char *) mask->data + token_in_stream * mask->nb[1] + stream * mask->nb[3];
    }

    float * dst_at(int64_t token, int64_t head) const {
        return (float *) ((char *) dst->data + head * dst->nb[1] + token * dst->nb[2]);
    }
};

// absorbed: every cache row is read once for all heads; for few tokens
void   latent_attn_decode(const ggml_compute_params * params, const latent_problem & p);
size_t latent_attn_decode_work_size(const latent_problem & p, int n_tasks);

// K and V are rebuilt from the latent tile by tile; for many tokens
void   latent_attn_prefill(const ggml_compute_params * params, const latent_problem & p);
size_t latent_attn_prefill_work_size(const latent_problem & p, int n_tasks);

}  // namespace plm
