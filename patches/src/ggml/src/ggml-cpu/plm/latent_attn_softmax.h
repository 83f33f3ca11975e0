#pragma once

// The running softmax of a group of columns, and reading the mask.

#include "latent_attn.h"
#include "latent_attn_block_f32.h"
#include "latent_attn_simd.h"
#include "simd-mappings.h"

#include <cmath>

namespace plm {

// running softmax of one group of columns
struct column_state {
    float * max;
    float * sum;

    // scores become weights relative to the new maximum; corr is what the old weights must be multiplied with
    __attribute__((noinline)) void update(float * s, int n, float * corr) const {
        for (int j = 0; j < COLS; j += VW) {
            const vf old = vf_load(max + j);
            vf       top = old;
            for (int r = 0; r < n; r++) {
                top = vf_max(top, vf_load(s + r * COLS + j));
            }
            const vf lowest = vf_splat(-INFINITY);
            const vf pivot  = top == lowest ? vf{} : top;  // nothing visible so far: avoid inf - inf
            const vf shrink = vf_exp(old - pivot);
            vf       total  = vf_load(sum + j) * shrink;
            for (int r = 0; r < n; r++) {
                const vf w = vf_exp(vf_load(s + r * COLS + j) - pivot);
                vf_store(s + r * COLS + j, w);
                total += w;
            }
            vf_store(max + j, top);
            vf_store(sum + j, total);
            vf_store(corr + j, shrink);
        }
    }
};

enum class mask_kind : int8_t { hidden, open, mixed };

static inline float mask_value(const latent_problem & p, const char * mask, int64_t j) {
    return p.mask->type == GGML_TYPE_F16 ? GGML_CPU_FP16_TO_FP32(((const ggml_fp16_t *) mask)[j]) :
                                           ((const float *) mask)[j];
}

}  // namespace plm
