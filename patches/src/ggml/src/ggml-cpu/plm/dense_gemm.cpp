#include "dense_gemm.h"

#include "dense_gemm_avx512.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"

#include <algorithm>
#include <cstring>

namespace plm {

namespace {

// a type with a kernel of its own
struct gemm_kernel {
    int64_t tile_tokens;
    size_t (*block_size)();  // packed activations of one tile and 32 columns
    size_t (*scratch_size)(int64_t k);
    void (*pack_inputs)(const float * const * x, int64_t n_tokens, int64_t k, void * tile);
    void (*pack_rows)(const char * rows, size_t row_size, int64_t n, int64_t k, void * scratch);
    void (*tile)(const void * packed,
                 int64_t      n,
                 int64_t      k,
                 const void * inputs,
                 int64_t      n_tokens,
                 float *      out,
                 int64_t      stride);
};

const gemm_kernel * kernel_of(ggml_type type) {
#if defined(PLM_GEMM_KERNELS)
    switch (type) {
        case GGML_TYPE_Q4_0:
            static const gemm_kernel q4_0 = PLM_GEMM_KERNEL(gemm_q4_0);
            return &q4_0;
        case GGML_TYPE_Q8_0:
            static const gemm_kernel q8_0 = PLM_GEMM_KERNEL(gemm_q8_0);
            return &q8_0;
        case GGML_TYPE_Q4_K:
            static const gemm_kernel q4_K = PLM_GEMM_KERNEL(gemm_q4_K);
            return &q4_K;
        case GGML_TYPE_Q6_K:
            static const gemm_kernel q6_K = PLM_GEMM_KERNEL(gemm_q6_K);
            return &q6_K;
        default:
            return nullptr;
    }
#else
    GGML_UNUSED(type);
    return nullptr;
#endif
}

// without a kernel: ggml's vec_dot, a tile of rows staying in L1
constexpr int64_t PLAIN_TILE = 8;

ggml_type input_type(ggml_type type) {
    return ggml_get_type_traits_cpu(type)->vec_dot_type;
}

void plain_convert(ggml_type type, const float * x, int64_t k, char * out) {
    if (input_type(type) == GGML_TYPE_F32) {
        memcpy(out, x, k * sizeof(float));
    } else {
        ggml_get_type_traits_cpu(input_type(type))->from_float(x, out, k);
    }
}

void plain_tile(const gemm_rows & rows, const char * inputs, int64_t n_tokens, float * out, int64_t stride) {
    const int64_t k          = rows.w->ne[0];
    const size_t  input_size = ggml_row_size(input_type(rows.w->type), k);
    const auto    vec_dot    = ggml_get_type_traits_cpu(rows.w->type)->vec_dot;
    for (int64_t r = 0; r < rows.n; r++) {
        const char * row = (const char *) rows.w->data + (rows.begin + r) * rows.w->nb[1];
        for (int64_t t = 0; t < n_tokens; t++) {
            vec_dot(k, out + t * stride + r, 0, row, 0, inputs + t * input_size, 0, 1);
        }
    }
}

size_t tile_size(ggml_type type, int64_t k) {
    const gemm_kernel * kernel = kernel_of(type);
    return kernel ? kernel->block_size() * (k / 32) : ggml_row_size(input_type(type), k) * PLAIN_TILE;
}

}  // namespace

bool gemm_has_kernel(ggml_type type) {
    return kernel_of(type) != nullptr;
}

int64_t gemm_tile_tokens(ggml_type type) {
    const gemm_kernel * kernel = kernel_of(type);
    return kernel ? kernel->tile_tokens : PLAIN_TILE;
}

size_t gemm_input_size(ggml_type type, int64_t k, int64_t n_tokens) {
    const int64_t per_tile = gemm_tile_tokens(type);
    return GGML_PAD((n_tokens + per_tile - 1) / per_tile * tile_size(type, k), 64);
}

void gemm_pack_inputs(ggml_type           type,
                      const ggml_tensor * x,
                      int64_t             first,
                      int64_t             n_tokens,
                      void *              inputs,
                      int                 ith,
                      int                 nth) {
    constexpr int64_t MAX_TILE = 16;

    const gemm_kernel * kernel   = kernel_of(type);
    const int64_t       per_tile = gemm_tile_tokens(type);
    const int64_t       k        = x->ne[0];
    GGML_ASSERT(per_tile <= MAX_TILE);

    for (int64_t tile = ith; tile * per_tile < n_tokens; tile += nth) {
        char *        out = (char *) inputs + tile * tile_size(type, k);
        const int64_t n   = std::min(per_tile, n_tokens - tile * per_tile);
        const float * rows[MAX_TILE];
        for (int64_t t = 0; t < n; t++) {
            rows[t] = (const float *) ((const char *) x->data + (first + tile * per_tile + t) * x->nb[1]);
        }
        if (kernel) {
            kernel->pack_inputs(rows, n, k, out);
            continue;
        }
        for (int64_t t = 0; t < n; t++) {
            plain_convert(type, rows[t], k, out + t * ggml_row_size(input_type(type), k));
        }
    }
}

size_t gemm_scratch_size(ggml_type type, int64_t k) {
    const gemm_kernel * kernel = kernel_of(type);
    return kernel ? GGML_PAD(kernel->scratch_size(k), 64) : 0;
}

gemm_rows gemm_pack_rows(const ggml_tensor * w, int64_t begin, int64_t n, void * scratch) {
    if (const gemm_kernel * kernel = kernel_of(w->type)) {
        kernel->pack_rows((const char *) w->data + begin * w->nb[1], w->nb[1], n, w->ne[0], scratch);
    }
    return { w, begin, n, scratch };
}

void gemm_tile(const gemm_rows & rows,
               const void *      inputs,
               int64_t           tile,
               int64_t           n_tokens,
               float *           out,
               int64_t           stride) {
    const char * in = (const char *) inputs + tile * tile_size(rows.w->type, rows.w->ne[0]);
    if (const gemm_kernel * kernel = kernel_of(rows.w->type)) {
        kernel->tile(rows.packed, rows.n, rows.w->ne[0], in, n_tokens, out, stride);
    } else {
        plain_tile(rows, in, n_tokens, out, stride);
    }
}

}  // namespace plm
