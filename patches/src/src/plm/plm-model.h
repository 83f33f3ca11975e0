#pragma once

// PLM with a latent cache; see plm-model.cpp. It is constructed where upstream's llama_model_plm was.

#include "llama-graph.h"
#include "llama-model.h"

#include <memory>
#include <set>

struct llama_model_plm_latent : public llama_model_base {
    llama_model_plm_latent(const struct llama_model_params & params) : llama_model_base(params) {}

    void load_arch_hparams(llama_model_loader & ml) override;
    void load_arch_tensors(llama_model_loader & ml) override;

    llama_memory_i * create_latent_memory(const llama_memory_params & params, const llama_cparams & cparams) const;

    // whether w lies as in the file and is multiplied by GGML_PLM_MUL_MAT
    bool uses_plm_mul_mat(const ggml_tensor * w) const;

    bool is_edge = false;  // tensor data layout

    // what the latent cache is sized by; it lives as long as the model, as the cache refers to it
    llama_hparams hparams_latent;

    struct graph : public llm_graph_context {
        graph(const llama_model_plm_latent & model, const llm_graph_params & params);

        const llama_model_plm_latent & model;

        bool          has_lora(ggml_tensor * w) const;
        ggml_tensor * build_mul_mat(ggml_tensor * w, ggml_tensor * x) const;
        ggml_tensor * build_lora_add(ggml_tensor * y, ggml_tensor * w, ggml_tensor * x) const;

        ggml_tensor * build_rope(ggml_tensor * x, ggml_tensor * pos, int64_t offset) const;
        ggml_tensor * build_latent_row(const llama_layer & layer, ggml_tensor * cur, ggml_tensor * pos, int il) const;
        ggml_tensor * build_latent_attn(const llama_layer &      layer,
                                        llm_graph_input_attn_k * inp,
                                        ggml_tensor *            cur,
                                        ggml_tensor *            pos,
                                        int                      il) const;
        ggml_tensor * build_relu_sqr_ffn(const llama_layer & layer, ggml_tensor * cur, int il) const;
    };

    std::unique_ptr<llm_graph_context> build_arch_graph(const llm_graph_params & params) const override;

private:
    int mul_mat_flags(const LLM_TN_IMPL & name);

    std::set<ggml_type> plm_mul_mat_types;
};
