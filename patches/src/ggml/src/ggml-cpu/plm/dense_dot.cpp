#include "dense_dot.h"

#include "dense_dot_avx512.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"

#include <algorithm>
#include <cstring>

namespace plm {

namespace {

using rows_fn = void (*)(const char *         rows,
                         size_t               row_size,
                         int64_t              n_rows,
                         const char * const * inputs,
                         int64_t              k,
                         float *              out,
                         int64_t              stride);

// a type with kernels of its own; rows[i] takes 1 << i tokens at once
struct dot_kernel {
    size_t (*input_size)(int64_t k);
    void (*prepare)(const float * x, void * input, int64_t k);
    rows_fn rows[4];
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

// rows that stay in L1 while the tokens take turns
constexpr int64_t TURN_ROWS = 16;

// up to 8 tokens as 4 + 2 + 1
void kernel_rows(const dot_kernel &  kernel,
                 const ggml_tensor * w,
                 int64_t             begin,
                 int64_t             n_rows,
                 const dot_inputs &  in,
                 float *             out,
                 int64_t             stride) {
    const char * rows = (const char *) w->data + begin * w->nb[1];
    const char * inputs[DOT_MAX_TOKENS];
    int64_t      t = 0;
    for (int step = 3; step >= 0; step--) {
        for (const int64_t n = int64_t(1) << step; t + n <= in.n_tokens; t += n) {
            for (int64_t i = 0; i < n; i++) {
                inputs[i] = in.data + (t + i) * in.stride;
            }
            kernel.rows[step](rows, w->nb[1], n_rows, inputs, w->ne[0], out + t * stride, stride);
        }
    }
}

void plain_rows(const ggml_tensor * w,
                int64_t             begin,
                int64_t             n_rows,
                const dot_inputs &  in,
                float *             out,
                int64_t             stride) {
    const auto vec_dot = ggml_get_type_traits_cpu(w->type)->vec_dot;
    for (int64_t r = 0; r < n_rows; r++) {
        const char * row = (const char *) w->data + (begin + r) * w->nb[1];
        for (int64_t t = 0; t < in.n_tokens; t++) {
            vec_dot(w->ne[0], out + t * stride + r, 0, row, 0, in.data + t * in.stride, 0, 1);
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
    const dot_kernel * kernel = kernel_of(w->type);
    if (!kernel) {
        plain_rows(w, row_begin, row_end - row_begin, inputs, out, out_stride);
        return;
    }
    const int64_t turn = inputs.n_tokens == 1 ? row_end - row_begin : TURN_ROWS;
    for (int64_t r = row_begin; r < row_end; r += turn) {
        kernel_rows(*kernel, w, r, std::min(turn, row_end - r), inputs, out + r - row_begin, out_stride);
    }
}

}  // namespace plm
