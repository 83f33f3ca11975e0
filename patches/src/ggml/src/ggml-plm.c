// Constructors of the PLM operations: shape checks and the result tensor. See ggml-plm.h for the meaning.

#include "ggml-plm.h"

#include "ggml-impl.h"

const char * ggml_plm_kind_name(enum ggml_plm_kind kind) {
    static const char * const names[] = { "sparse_ffn", "sparse_down", "latent_attn", "head_matvec", "mul_mat" };
    static_assert(sizeof(names) / sizeof(names[0]) == GGML_PLM_KIND_COUNT, "a kind without a name");

    GGML_ASSERT(kind >= 0 && kind < GGML_PLM_KIND_COUNT);
    return names[kind];
}

static struct ggml_tensor * ggml_plm_new(struct ggml_context * ctx,
                                         enum ggml_plm_kind    kind,
                                         int64_t               ne0,
                                         int64_t               ne1,
                                         int64_t               ne2) {
    struct ggml_tensor * result = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, ne0, ne1, ne2);

    result->op = GGML_OP_PLM;
    ggml_set_op_params_i32(result, 0, kind);

    return result;
}

struct ggml_tensor * ggml_plm_sparse_ffn(struct ggml_context * ctx,
                                         struct ggml_tensor *  up,
                                         struct ggml_tensor *  x,
                                         struct ggml_tensor *  down) {
    GGML_ASSERT(ggml_is_matrix(up) && ggml_is_contiguous(up));
    GGML_ASSERT(ggml_is_matrix(down) && ggml_is_contiguous(down));
    GGML_ASSERT(ggml_are_same_shape(up, down));
    GGML_ASSERT(ggml_is_matrix(x) && x->type == GGML_TYPE_F32 && ggml_is_contiguous_rows(x));
    GGML_ASSERT(x->ne[0] == up->ne[0]);

    struct ggml_tensor * result = ggml_plm_new(ctx, GGML_PLM_SPARSE_FFN, down->ne[0], x->ne[1], 1);

    result->src[0] = up;
    result->src[1] = x;
    result->src[2] = down;

    return result;
}

struct ggml_tensor * ggml_plm_sparse_down(struct ggml_context * ctx,
                                          struct ggml_tensor *  down,
                                          struct ggml_tensor *  act) {
    GGML_ASSERT(ggml_is_matrix(down) && ggml_is_contiguous(down));
    GGML_ASSERT(ggml_is_matrix(act) && act->type == GGML_TYPE_F32 && ggml_is_contiguous_rows(act));
    GGML_ASSERT(act->ne[0] == down->ne[1]);

    struct ggml_tensor * result = ggml_plm_new(ctx, GGML_PLM_SPARSE_DOWN, down->ne[0], act->ne[1], 1);

    result->src[0] = down;
    result->src[1] = act;

    return result;
}

struct ggml_tensor * ggml_plm_latent_attn(struct ggml_context * ctx,
                                          struct ggml_tensor *  q,
                                          struct ggml_tensor *  cache,
                                          struct ggml_tensor *  mask,
                                          struct ggml_tensor *  k_b,
                                          struct ggml_tensor *  v_b,
                                          bool                  k_b_trans,
                                          float                 scale) {
    const int64_t n_head   = q->ne[1];
    const int64_t n_tokens = q->ne[2];
    const int64_t n_stream = cache->ne[2];
    const int64_t rank     = v_b->ne[0];
    const int64_t rope     = cache->ne[0] - rank;
    const int64_t nope     = q->ne[0] - rope;

    GGML_ASSERT(rope > 0 && nope > 0);
    GGML_ASSERT(q->type == GGML_TYPE_F32 && q->ne[3] == 1 && q->nb[0] == sizeof(float));
    GGML_ASSERT(cache->ne[3] == 1 && ggml_is_contiguous_rows(cache));
    GGML_ASSERT(n_tokens % n_stream == 0);
    GGML_ASSERT(mask->type == GGML_TYPE_F16 || mask->type == GGML_TYPE_F32);
    GGML_ASSERT(mask->ne[0] == cache->ne[1] && mask->ne[1] >= n_tokens / n_stream);
    GGML_ASSERT(mask->ne[2] == 1 && mask->ne[3] == n_stream && ggml_is_contiguous(mask));
    GGML_ASSERT(k_b->ne[0] == (k_b_trans ? rank : nope) && k_b->ne[1] == (k_b_trans ? nope : rank));
    GGML_ASSERT(k_b->ne[2] == n_head && v_b->ne[2] == n_head);
    GGML_ASSERT(ggml_is_contiguous_rows(k_b) && ggml_is_contiguous_rows(v_b));

    struct ggml_tensor * result = ggml_plm_new(ctx, GGML_PLM_LATENT_ATTN, v_b->ne[1], n_head, n_tokens);

    ggml_set_op_params_f32(result, 1, scale);
    ggml_set_op_params_i32(result, 2, k_b_trans);

    result->src[0] = q;
    result->src[1] = cache;
    result->src[2] = mask;
    result->src[3] = k_b;
    result->src[4] = v_b;

    return result;
}

struct ggml_tensor * ggml_plm_head_matvec(struct ggml_context * ctx,
                                          struct ggml_tensor *  w,
                                          struct ggml_tensor *  x,
                                          bool                  trans) {
    GGML_ASSERT(x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float) && x->ne[3] == 1);
    GGML_ASSERT(w->ne[3] == 1 && ggml_is_contiguous_rows(w));
    GGML_ASSERT(w->ne[2] == x->ne[2] && w->ne[trans ? 1 : 0] == x->ne[0]);

    struct ggml_tensor * result = ggml_plm_new(ctx, GGML_PLM_HEAD_MATVEC, w->ne[trans ? 0 : 1], x->ne[1], x->ne[2]);

    ggml_set_op_params_i32(result, 1, trans);

    result->src[0] = w;
    result->src[1] = x;

    return result;
}

struct ggml_tensor * ggml_plm_mul_mat(struct ggml_context * ctx, struct ggml_tensor * w, struct ggml_tensor * x) {
    GGML_ASSERT(ggml_is_matrix(w) && ggml_is_contiguous(w));
    GGML_ASSERT(ggml_is_matrix(x) && x->type == GGML_TYPE_F32 && ggml_is_contiguous_rows(x));
    GGML_ASSERT(x->ne[0] == w->ne[0]);

    struct ggml_tensor * result = ggml_plm_new(ctx, GGML_PLM_MUL_MAT, w->ne[1], x->ne[1], 1);

    result->src[0] = w;
    result->src[1] = x;

    return result;
}
