// PLM: multi-head latent attention over a latent cache, and a squared-ReLU FFN that skips dead neurons.
//
// The cache holds one row per token and layer, [normed latent | rotated k_pe]; K and V of the heads are
// never stored. Two layouts of the same weights are loaded:
//   stock  what the upstream converter writes: attn_kv_b in one piece, ffn_down row-major
//   edge   attn_k_b and attn_v_b apart and transposed for absorption, ffn_down neuron-major,
//          named by the key plm.tensor_data_layout = "edge"

#include "plm-model.h"

#include "ggml-cpp.h"
#include "ggml-plm.h"
#include "llama-adapter.h"
#include "llama-kv-cache.h"
#include "llama-model-loader.h"

#include <algorithm>
#include <cmath>

static const char * const PLM_LAYOUT_EDGE = "edge";

void llama_model_plm_latent::load_arch_hparams(llama_model_loader & ml) {
    ml.get_key(LLM_KV_ATTENTION_LAYERNORM_RMS_EPS, hparams.f_norm_rms_eps);
    ml.get_key(LLM_KV_ATTENTION_KV_LORA_RANK, hparams.n_lora_kv);

    std::string layout;
    if (ml.get_key(LLM_KV_TENSOR_DATA_LAYOUT, layout, false) && layout != PLM_LAYOUT_EDGE) {
        throw std::runtime_error(
            format("tensor data layout '%s' is not known to this engine, only '%s' (or no key: stock)", layout.c_str(),
                   PLM_LAYOUT_EDGE));
    }
    is_edge = !layout.empty();

    switch (hparams.n_layer()) {
        case 32:
            type = LLM_TYPE_1_8B;
            break;
        default:
            type = LLM_TYPE_UNKNOWN;
    }
}

// The cache is told that there is one head as wide as a latent row, and no V. The model's own hparams keep
// the shape of the heads, because that is what the file says and what a saved model must say again.
static llama_hparams latent_hparams(const llama_hparams & hparams) {
    llama_hparams latent = hparams;

    latent.n_embd_head_k_mla_impl = hparams.n_embd_head_k();
    latent.n_embd_head_v_mla_impl = hparams.n_embd_head_v();
    latent.n_embd_head_k_full     = hparams.n_lora_kv + hparams.n_rot();
    latent.n_embd_head_v_full     = hparams.n_lora_kv;
    std::fill(latent.n_head_kv_arr.begin(), latent.n_head_kv_arr.end(), 1);

    return latent;
}

// a kernel that multiplies by weights as they lie in the file, where the CPU has one, spares the repacked copy
static bool has_plm_mul_mat(ggml_type type) {
    ggml_init_params params = { 4 * ggml_tensor_overhead(), nullptr, /*.no_alloc =*/true };
    ggml_context_ptr ctx{ ggml_init(params) };

    ggml_tensor * w = ggml_new_tensor_2d(ctx.get(), type, ggml_blck_size(type), 1);
    ggml_tensor * x = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, w->ne[0], 1);

    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    return ggml_backend_dev_supports_op(cpu, ggml_plm_mul_mat(ctx.get(), w, x));
}

bool llama_model_plm_latent::uses_plm_mul_mat(const ggml_tensor * w) const {
    return plm_mul_mat_types.count(w->type) > 0;
}

// how a matrix that is multiplied from the left is to be loaded
int llama_model_plm_latent::mul_mat_flags(const LLM_TN_IMPL & name) {
    const ggml_tensor * meta = ml->get_tensor_meta(name.str().c_str());
    if (!meta || !has_plm_mul_mat(meta->type)) {
        return 0;
    }
    plm_mul_mat_types.insert(meta->type);
    return TENSOR_OP_PLM;
}

void llama_model_plm_latent::load_arch_tensors(llama_model_loader &) {
    LLAMA_LOAD_LOCALS;

    hparams_latent = latent_hparams(hparams);

    const auto create_matrix = [&](llm_tensor tensor, int i, const std::initializer_list<int64_t> & ne, int flags = 0) {
        const LLM_TN_IMPL name = i < 0 ? tn(tensor, "weight") : tn(tensor, "weight", i);
        return create_tensor(name, ne, flags | mul_mat_flags(name));
    };

    const int64_t rope = hparams.n_rot();
    const int64_t nope = n_embd_head_k - rope;
    const int64_t rank = hparams.n_lora_kv;

    tok_embd    = create_tensor(tn(LLM_TENSOR_TOKEN_EMBD, "weight"), { n_embd, n_vocab }, 0);
    output_norm = create_tensor(tn(LLM_TENSOR_OUTPUT_NORM, "weight"), { n_embd }, 0);
    output      = create_matrix(LLM_TENSOR_TOKEN_EMBD, -1, { n_embd, n_vocab }, TENSOR_DUPLICATED);

    for (int i = 0; i < n_layer; ++i) {
        auto & layer = layers[i];

        layer.attn_norm      = create_tensor(tn(LLM_TENSOR_ATTN_NORM, "weight", i), { n_embd }, 0);
        layer.wq             = create_matrix(LLM_TENSOR_ATTN_Q, i, { n_embd, n_embd_head_k * n_head });
        layer.wkv_a_mqa      = create_matrix(LLM_TENSOR_ATTN_KV_A_MQA, i, { n_embd, rank + rope });
        layer.attn_kv_a_norm = create_tensor(tn(LLM_TENSOR_ATTN_KV_A_NORM, "weight", i), { rank }, 0);
        layer.wo             = create_matrix(LLM_TENSOR_ATTN_OUT, i, { n_head * n_embd_head_v, n_embd });
        layer.ffn_norm       = create_tensor(tn(LLM_TENSOR_FFN_NORM, "weight", i), { n_embd }, 0);
        layer.ffn_up         = create_matrix(LLM_TENSOR_FFN_UP, i, { n_embd, n_ff });

        // GGML_OP_PLM reads these as they are in the file, so they must not be repacked
        if (is_edge) {
            layer.wk_b = create_tensor(tn(LLM_TENSOR_ATTN_K_B, "weight", i), { nope, rank, n_head }, TENSOR_OP_PLM);
            layer.wv_b =
                create_tensor(tn(LLM_TENSOR_ATTN_V_B, "weight", i), { rank, n_embd_head_v, n_head }, TENSOR_OP_PLM);
            layer.ffn_down = create_tensor(tn(LLM_TENSOR_FFN_DOWN, "weight", i), { n_embd, n_ff }, TENSOR_OP_PLM);
        } else {
            layer.wkv_b    = create_tensor(tn(LLM_TENSOR_ATTN_KV_B, "weight", i),
                                           { rank, n_head * (nope + n_embd_head_v) }, TENSOR_OP_PLM);
            layer.ffn_down = create_matrix(LLM_TENSOR_FFN_DOWN, i, { n_ff, n_embd });
        }
    }
}

llama_memory_i * llama_model_plm_latent::create_latent_memory(const llama_memory_params & params,
                                                              const llama_cparams &       cparams) const {
    const uint32_t width = hparams_latent.n_embd_head_k();
    const int64_t  block = ggml_blck_size(params.type_k);

    if (width % block != 0 || hparams.n_lora_kv % block != 0) {
        throw std::runtime_error(
            format("cache type %s has blocks of %d values and does not fit a latent row of %u + %u",
                   ggml_type_name(params.type_k), (int) block, hparams.n_lora_kv, hparams.n_rot()));
    }

    // there is no V to transpose; a state saved with flash attention off then loads with it on
    const bool v_trans = false;

    return new llama_kv_cache(*this, hparams_latent, params.type_k, params.type_v, v_trans, cparams.offload_kqv,
                              cparams.kv_unified, cparams.n_ctx_seq, cparams.n_seq_max, 1, hparams.n_swa,
                              hparams.swa_type, nullptr, nullptr, nullptr, nullptr);
}

std::unique_ptr<llm_graph_context> llama_model_plm_latent::build_arch_graph(const llm_graph_params & params) const {
    return std::make_unique<graph>(*this, params);
}

llama_model_plm_latent::graph::graph(const llama_model_plm_latent & model, const llm_graph_params & params) :
    llm_graph_context(params),
    model(model) {
    ggml_tensor * inpL        = build_inp_embd(model.tok_embd);
    ggml_tensor * inp_pos     = build_inp_pos();
    auto *        inp_attn    = build_attn_inp_k();
    ggml_tensor * inp_out_ids = build_inp_out_ids();

    for (int il = 0; il < n_layer; ++il) {
        const auto &  layer = model.layers[il];
        ggml_tensor * inpSA = inpL;

        ggml_tensor * cur = build_norm(inpL, layer.attn_norm, NULL, LLM_NORM_RMS, il);
        cb(cur, "attn_norm", il);

        cur = build_latent_attn(layer, inp_attn, cur, inp_pos, il);

        if (il == n_layer - 1 && inp_out_ids) {
            cur   = ggml_get_rows(ctx0, cur, inp_out_ids);
            inpSA = ggml_get_rows(ctx0, inpSA, inp_out_ids);
        }
        ggml_tensor * ffn_inp = ggml_add(ctx0, cur, inpSA);
        cb(ffn_inp, "ffn_inp", il);

        cur = build_norm(ffn_inp, layer.ffn_norm, NULL, LLM_NORM_RMS, il);
        cb(cur, "ffn_norm", il);

        cur = build_relu_sqr_ffn(layer, cur, il);
        cb(cur, "ffn_out", il);

        cur = ggml_add(ctx0, cur, ffn_inp);

        cur = build_cvec(cur, il);
        cb(cur, "l_out", il);

        inpL = cur;
    }

    ggml_tensor * cur = build_norm(inpL, model.output_norm, NULL, LLM_NORM_RMS, -1);
    cb(cur, "result_norm", -1);
    res->t_embd = cur;

    cur = build_mul_mat(model.output, cur);
    cb(cur, "result_output", -1);
    res->t_logits = cur;

    ggml_build_forward_expand(gf, cur);
}

bool llama_model_plm_latent::graph::has_lora(ggml_tensor * w) const {
    return std::any_of(loras->begin(), loras->end(), [&](const auto & lora) { return lora.first->get_weight(w); });
}

ggml_tensor * llama_model_plm_latent::graph::build_mul_mat(ggml_tensor * w, ggml_tensor * x) const {
    return model.uses_plm_mul_mat(w) && !has_lora(w) ? ggml_plm_mul_mat(ctx0, w, x) : build_lora_mm(w, x);
}

ggml_tensor * llama_model_plm_latent::graph::build_rope(ggml_tensor * x, ggml_tensor * pos, int64_t offset) const {
    x = ggml_rope_ext(ctx0, x, pos, nullptr, n_rot, rope_type, n_ctx_orig, freq_base, freq_scale, ext_factor,
                      attn_factor, beta_fast, beta_slow);
    return offset == 0 ? x : ggml_rope_set_offset(x, offset);
}

// {n_embd, n_tokens} -> the cache row of every token, {rank + rope, 1, n_tokens}
ggml_tensor * llama_model_plm_latent::graph::build_latent_row(const llama_layer & layer,
                                                              ggml_tensor *       cur,
                                                              ggml_tensor *       pos,
                                                              int                 il) const {
    const int64_t rank = hparams.n_lora_kv;

    ggml_tensor * kv_a = build_mul_mat(layer.wkv_a_mqa, cur);
    cb(kv_a, "kv_pe_compresseed", il);

    ggml_tensor * latent = ggml_view_2d(ctx0, kv_a, rank, n_tokens, kv_a->nb[1], 0);
    latent               = build_norm(latent, layer.attn_kv_a_norm, NULL, LLM_NORM_RMS, il);
    cb(latent, "kv_compressed", il);

    ggml_tensor * k_pe =
        ggml_view_3d(ctx0, kv_a, n_rot, 1, n_tokens, kv_a->nb[1], kv_a->nb[1], ggml_row_size(kv_a->type, rank));
    k_pe = build_rope(k_pe, pos, 0);
    cb(k_pe, "k_pe", il);

    ggml_tensor * row = ggml_concat(ctx0, ggml_reshape_3d(ctx0, latent, rank, 1, n_tokens), k_pe, 0);
    cb(row, "kv_row", il);

    return row;
}

ggml_tensor * llama_model_plm_latent::graph::build_latent_attn(const llama_layer &      layer,
                                                               llm_graph_input_attn_k * inp,
                                                               ggml_tensor *            cur,
                                                               ggml_tensor *            pos,
                                                               int                      il) const {
    const int64_t n_embd_k = hparams.n_embd_head_k();
    const int64_t n_embd_v = hparams.n_embd_head_v();
    const int64_t nope     = n_embd_k - n_rot;
    const int64_t rank     = hparams.n_lora_kv;

    ggml_tensor * q = build_mul_mat(layer.wq, cur);
    cb(q, "q", il);
    q = build_rope(ggml_reshape_3d(ctx0, q, n_embd_k, n_head, n_tokens), pos, nope);
    cb(q, "q_rope", il);

    ggml_tensor * row = build_latent_row(layer, cur, pos, il);

    // the attention reads the cache through a view, so the graph must be told that the store comes first
    ggml_build_forward_expand(gf, q);
    ggml_build_forward_expand(gf, inp->mctx->cpy_k(ctx0, row, inp->get_k_idxs(), il));

    ggml_tensor * k     = inp->mctx->get_k(ctx0, il);
    ggml_tensor * cache = ggml_view_3d(ctx0, k, k->ne[0], k->ne[2], k->ne[3], k->nb[2], k->nb[3], 0);

    ggml_tensor * k_b = layer.wk_b;
    ggml_tensor * v_b = layer.wv_b;
    if (layer.wkv_b) {  // stock layout: rows of a head are [k_nope | v], the two halves are used where they lie
        ggml_tensor * w      = layer.wkv_b;
        const size_t  stride = (nope + n_embd_v) * w->nb[1];

        k_b = ggml_view_3d(ctx0, w, rank, nope, n_head, w->nb[1], stride, 0);
        v_b = ggml_view_3d(ctx0, w, rank, n_embd_v, n_head, w->nb[1], stride, nope * w->nb[1]);
    }

    cur = ggml_plm_latent_attn(ctx0, q, cache, inp->get_kq_mask(), k_b, v_b, layer.wkv_b != nullptr,
                               1.0f / sqrtf(float(n_embd_k)));
    cb(cur, "latent_attn", il);

    cur = build_mul_mat(layer.wo, ggml_reshape_2d(ctx0, cur, n_embd_v * n_head, n_tokens));
    cb(cur, "attn_out", il);

    return cur;
}

// y = w x that was not computed by build_lora_mm
ggml_tensor * llama_model_plm_latent::graph::build_lora_add(ggml_tensor * y, ggml_tensor * w, ggml_tensor * x) const {
    for (const auto & [adapter, strength] : *loras) {
        if (const auto * lora = adapter->get_weight(w)) {
            ggml_tensor * delta = ggml_mul_mat(ctx0, lora->b, ggml_mul_mat(ctx0, lora->a, x));
            y                   = ggml_add(ctx0, y, ggml_scale(ctx0, delta, lora->get_scale(adapter->alpha, strength)));
        }
    }
    return y;
}

ggml_tensor * llama_model_plm_latent::graph::build_relu_sqr_ffn(const llama_layer & layer,
                                                                ggml_tensor *       cur,
                                                                int                 il) const {
    const bool has_loras = has_lora(layer.ffn_up) || has_lora(layer.ffn_down);
    if (model.is_edge && model.uses_plm_mul_mat(layer.ffn_up) && !has_loras) {
        return ggml_plm_sparse_ffn(ctx0, layer.ffn_up, cur, layer.ffn_down);
    }
    cur = build_mul_mat(layer.ffn_up, cur);
    cb(cur, "ffn_up", il);
    cur = ggml_sqr(ctx0, ggml_relu(ctx0, cur));
    cb(cur, "ffn_sqr(relu)", il);

    return model.is_edge ? build_lora_add(ggml_plm_sparse_down(ctx0, layer.ffn_down, cur), layer.ffn_down, cur) :
                           build_mul_mat(layer.ffn_down, cur);
}
