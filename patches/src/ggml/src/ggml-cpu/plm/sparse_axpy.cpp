#include "sparse_axpy.h"

#include "ggml-impl.h"
#include "sparse_axpy_avx512.h"
#include "sparse_axpy_dotprod.h"
#include "sparse_axpy_simd.h"

#include <algorithm>

namespace plm {

namespace {

// whole super-blocks of every type
constexpr int64_t SEGMENT = 256;

void to_f32(ggml_type type, const char * src, int64_t n, float * dst) {
    if (type == GGML_TYPE_F32) {
        std::copy_n((const float *) src, n, dst);
    } else {
        ggml_get_type_traits(type)->to_float(src, dst, n);
    }
}

void axpy_portable(ggml_type type, const axpy_rows & rows, int64_t begin, int64_t n, float * acc) {
    const size_t offset = ggml_row_size(type, begin);
    float        values[SEGMENT];
    for (int64_t i = begin; i < n; i += SEGMENT) {
        const int64_t m = std::min(SEGMENT, n - i);
        for (int r = 0; r < rows.n; r++) {
            to_f32(type, rows.row[r] + offset + ggml_row_size(type, i - begin), m, values);
            const float a = rows.scale[r];
            float *     y = acc + i;
            for (int64_t j = 0; j < m; j++) {
                y[j] += a * values[j];
            }
        }
    }
}

}  // namespace

void axpy(ggml_type type, const axpy_rows & rows, const axpy_rows & next, int64_t n, float * acc) {
#if defined(PLM_AXPY_DOTPROD)
    if (type == GGML_TYPE_Q4_0) {
        axpy_rows left = rows;
        dotprod::axpy_q4_0(left, next, n, acc);
        if (left.n > 0) {
            simd::axpy(type, left, axpy_rows(), n, acc);
        }
        return;
    }
#endif
    int64_t done = 0;
#if defined(PLM_AXPY_AVX512)
    done = avx512::axpy(type, rows, next, n, acc);
#elif defined(PLM_AXPY_SIMD)
    done = simd::axpy(type, rows, next, n, acc);
#endif
    if (done < n) {
        axpy_portable(type, rows, done, n, acc);
    }
    GGML_UNUSED(next);
}

void dequantize(ggml_type type, const char * row, int64_t n, float * dst) {
    int64_t done = 0;
#if defined(PLM_AXPY_AVX512)
    done = avx512::dequantize(type, row, n, dst);
#elif defined(PLM_AXPY_SIMD)
    done = simd::dequantize(type, row, n, dst);
#endif
    if (done < n) {
        to_f32(type, row + ggml_row_size(type, done), n - done, dst + done);
    }
}

}  // namespace plm
