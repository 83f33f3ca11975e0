#include "dense_dot.h"

#include "dense_dot_avx512.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"

#include <cstring>

namespace plm {

namespace {

using row_fn = void (*)(const char * row, const char * const * inputs, int64_t k, float * out);

// a type with kernels of its own; row[i] takes 1 << i tokens at once
struct dot_kernel {
    size_t (*input_size)(int64_t k);
    void (*prepare)(const float * x, void * input, int64_t k);
    row_fn row[4];
};

const dot_kernel * kernel_of(ggml_type type) {
#if defined(PLM_DOT_AVX512)
    switch (type) {
        case GGML_TYPE_Q4_0:
            static const dot_kernel q4_0 = PLM_DOT_KERNEL(avx512::dot_q4_0);
            return &q4_0;
        case GGML_TYPE_Q8_0:
            static const dot_kernel q8_0 = PLM_DOT_KERNEL(avx512::dot_q8_0);
            return &q8_0;
        case GGML_TYPE_Q4_K:
            static const dot_kernel q4_K = PLM_DOT_KERNEL(avx512::dot_q4_K);
            return &q4_K;
        case GGML_TYPE_Q6_K:
            static const dot_kernel q6_K = PLM_DOT_KERNEL(avx512::dot_q6_K);
            return &q6_K;
        default:
            return nullptr;
    }
#else
    GGML_UNUSED(type);
    return nullptr;
#endif
}

ggml_type input_type(ggml_type type) {
    return ggml_get_type_traits_cpu(type)->vec_dot_type;
}

// up to 8 tokens as 4 + 2 + 1: the row stays in L1 between the calls
void dot_row(const dot_kernel & kernel, const char * row, const dot_inputs & in, int64_t k, float * out) {
    const char * rows[DOT_MAX_TOKENS];
    int64_t      t = 0;
    for (int step = 3; step >= 0; step--) {
        for (const int64_t n = int64_t(1) << step; t + n <= in.n_tokens; t += n) {
            for (int64_t i = 0; i < n; i++) {
                rows[i] = in.data + (t + i) * in.stride;
            }
            kernel.row[step](row, rows, k, out + t);
        }
    }
}

}  // namespace

size_t dot_input_size(ggml_type type, int64_t k) {
    const dot_kernel * kernel = kernel_of(type);
    return GGML_PAD(kernel ? kernel->input_size(k) : ggml_row_size(input_type(type), k), 64);
}

void dot_input_prepare(ggml_type type, const float * x, void * input, int64_t k) {
    if (const dot_kernel * kernel = kernel_of(type)) {
        kernel->prepare(x, input, k);
    } else if (input_type(type) == GGML_TYPE_F32) {
        memcpy(input, x, k * sizeof(float));
    } else {
        ggml_get_type_traits_cpu(input_type(type))->from_float(x, input, k);
    }
}

void dot_rows(const ggml_tensor * w,
              int64_t             row_begin,
              int64_t             row_end,
              const dot_inputs &  inputs,
              float *             out,
              int64_t             out_stride) {
    const dot_kernel * kernel  = kernel_of(w->type);
    const auto         vec_dot = ggml_get_type_traits_cpu(w->type)->vec_dot;
    const int64_t      k       = w->ne[0];

    for (int64_t r = row_begin; r < row_end; r++) {
        const char * row = (const char *) w->data + r * w->nb[1];
        float        y[DOT_MAX_TOKENS];
        if (kernel) {
            dot_row(*kernel, row, inputs, k, y);
        }
        for (int64_t t = 0; t < inputs.n_tokens; t++) {
            if (!kernel) {
                vec_dot(k, &y[t], 0, row, 0, inputs.data + t * inputs.stride, 0, 1);
            }
            out[t * out_stride + r - row_begin] = y[t];
        }
    }
}

}  // namespace plm
