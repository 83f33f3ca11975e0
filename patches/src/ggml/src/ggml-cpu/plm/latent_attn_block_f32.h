#pragma once

// A block of up to ROWS rows against columns in groups of COLS, in float: two small GEMMs.
//   scores      s[row][col] = sum_d row[d] * q[d][col]      lanes are columns
//   accumulate  o[col][d]   = o * corr + sum_row w * row    lanes are dimensions of the row's first part
// Decode: rows are cache rows [latent | k_pe], columns are (token, head), and the values are the latents.
// Prefill: rows are a head's rebuilt keys or values and columns are tokens; the rebuilding itself is
// `scores` too, with the weights as columns. The rows are expanded once and serve every column.

#include "ggml-impl.h"
#include "head_matvec.h"
#include "latent_attn_simd.h"

namespace plm {

constexpr int COLS   = 16;  // columns handled together
constexpr int COL_VF = COLS / VW;

struct block_f32 {
    static constexpr int ROWS = 64;  // cache rows handled together

    // register tiles, sized to the number of vector registers
#if defined(__AVX512F__)
    static constexpr int QK_ROWS = 16;
    static constexpr int PV_VF   = 4;
#elif defined(__ARM_NEON)
    static constexpr int QK_ROWS = 4;
    static constexpr int PV_VF   = 4;
#else
    static constexpr int QK_ROWS = 4;
    static constexpr int PV_VF   = 2;
#endif
    static constexpr int PV_COLS = 4;

    int64_t first_part;  // dimensions of the first part of a row, and of the second
    int64_t second_part;
    int64_t width;
    int64_t value_pad;  // floats from column to column of o
    int64_t stride;
    float * c;          // [ROWS][stride]
    float * q;          // [groups][width][COLS]

    static int64_t row_stride(int64_t width) { return GGML_PAD(width, 32) + 32; }

    static size_t scratch_bytes(int64_t first_part, int64_t second_part, int64_t n_col_pad) {
        const int64_t width = first_part + second_part;
        return GGML_PAD((ROWS * row_stride(width) + width * n_col_pad) * sizeof(float), 64);
    }

    block_f32(int64_t first_part, int64_t second_part, int64_t /* n_col_pad */, void * scratch) :
        first_part(first_part),
        second_part(second_part),
        width(first_part + second_part),
        value_pad(GGML_PAD(first_part, 32)),
        stride(row_stride(width)),
        c((float *) scratch),
        q(c + ROWS * stride) {
        memset(c, 0, ROWS * stride * sizeof(float));
    }

    // columns of one group: dimension d of column i is at queries[d * query_stride + i]
    void set_queries(int64_t group, const float * queries, int64_t query_stride) {
        for (int64_t d = 0; d < width; d++) {
            memcpy(q + (group * width + d) * COLS, queries + d * query_stride, COLS * sizeof(float));
        }
    }

    // a block that rounds its rows to scales of its own; this one does not
    void forget_scales() {}

    // whether the scales have changed, so that the queries have to be set again
    bool load_rows(ggml_type type, const char * const * rows, int n) {
        for (int r = 0; r < n; r++) {
            row_to_f32(type, rows[r], 0, width, c + r * stride);
        }
        return false;
    }

    // rows in float, the second part apart
    bool load_floats(const float * first, int64_t first_stride, const float * second, int64_t second_stride, int n) {
        for (int r = 0; r < n; r++) {
            memcpy(c + r * stride, first + r * first_stride, first_part * sizeof(float));
            if (second_part > 0) {
                memcpy(c + r * stride + first_part, second + r * second_stride, second_part * sizeof(float));
            }
        }
        return false;
    }

    void announce(const char * const * /* rows */, int /* n */, int64_t /* bytes */) {}

    // s[row * s_stride + col]; rows past n, to a multiple of QK_ROWS, are written too and mean nothing
    void scores(int64_t group, int n, float * s, int64_t s_stride) const {
        for (int r = 0; r < n; r += QK_ROWS) {
            score_tile(c + r * stride, q + group * width * COLS, s + r * s_stride, s_stride);
        }
    }

    void score_tile(const float * rows, const float * qs, float * s, int64_t s_stride) const {
        vf acc[QK_ROWS][COL_VF] = {};
        for (int64_t d = 0; d < width; d++) {
            vf qv[COL_VF];
            for (int j = 0; j < COL_VF; j++) {
                qv[j] = vf_load(qs + d * COLS + j * VW);
            }
            for (int r = 0; r < QK_ROWS; r++) {
                for (int j = 0; j < COL_VF; j++) {
                    acc[r][j] += qv[j] * rows[r * stride + d];
                }
            }
        }
        for (int r = 0; r < QK_ROWS; r++) {
            for (int j = 0; j < COL_VF; j++) {
                vf_store(s + r * s_stride + j * VW, acc[r][j]);
            }
        }
    }

    // o {COLS, value_pad}; weights w[row][col] are the scores after the softmax; corr rescales what o holds
    void accumulate(const float * w, int n, const float * corr, float * o) const {
        int64_t d = 0;
        for (; d + PV_VF * VW <= value_pad; d += PV_VF * VW) {
            for (int col = 0; col < COLS; col += PV_COLS) {
                value_tile<PV_VF>(w + col, n, corr + col, c + d, o + col * value_pad + d);
            }
        }
        for (; d < value_pad; d += VW) {
            for (int col = 0; col < COLS; col += PV_COLS) {
                value_tile<1>(w + col, n, corr + col, c + d, o + col * value_pad + d);
            }
        }
    }

    void finish(float * /* o */) const {}

    template <int N> void value_tile(const float * w, int n, const float * corr, const float * rows, float * o) const {
        vf acc[PV_COLS][N];
        for (int i = 0; i < PV_COLS; i++) {
            for (int j = 0; j < N; j++) {
                acc[i][j] = vf_load(o + i * value_pad + j * VW) * corr[i];
            }
        }
        for (int r = 0; r < n; r++) {
            vf v[N];
            for (int j = 0; j < N; j++) {
                v[j] = vf_load(rows + r * stride + j * VW);
            }
            for (int i = 0; i < PV_COLS; i++) {
                for (int j = 0; j < N; j++) {
                    acc[i][j] += v[j] * w[r * COLS + i];
                }
            }
        }
        for (int i = 0; i < PV_COLS; i++) {
            for (int j = 0; j < N; j++) {
                vf_store(o + i * value_pad + j * VW, acc[i][j]);
            }
        }
    }
};

}  // namespace plm
