#pragma once

// One block of cache rows against 16 columns (a column = a head of a token), in float: two small GEMMs.
//   scores  S[row][col] = sum_d c[row][d] * q[d][col]     lanes are columns
//   values  o[col][d]   = o * corr + sum_row p * c        lanes are latent values
// The rows are expanded once and serve every column.

#include "head_matvec.h"
#include "latent_attn.h"
#include "latent_attn_simd.h"

namespace plm {

constexpr int COLS   = 16;  // columns handled together
constexpr int COL_VF = COLS / VW;

struct block_f32 {
    static constexpr int ROWS = 32;  // cache rows handled together

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

    int64_t       width;
    int64_t       rank_pad;
    float *       c;  // [ROWS][stride]
    int64_t       stride;
    const float * q;  // [width][n_col_pad]
    int64_t       n_col_pad;

    static size_t scratch_bytes(const latent_problem & p, int64_t /* n_col_pad */) {
        return GGML_PAD(ROWS * row_stride(p) * sizeof(float), 64);
    }

    static int64_t row_stride(const latent_problem & p) { return GGML_PAD(p.width, 32) + 32; }

    block_f32(const latent_problem & p, int64_t n_col_pad, void * scratch) :
        width(p.width),
        rank_pad(GGML_PAD(p.rank, 32)),
        c((float *) scratch),
        stride(row_stride(p)),
        n_col_pad(n_col_pad) {
        memset(c, 0, ROWS * stride * sizeof(float));
    }

    void set_queries(const float * queries) { q = queries; }

    void load_rows(ggml_type type, const char * const * rows, int n) {
        for (int r = 0; r < n; r++) {
            row_to_f32(type, rows[r], 0, width, c + r * stride);
        }
    }

    void announce(const char * const * /* rows */, int /* n */) {}

    // rows past the loaded ones may hold anything finite; their scores are not used
    void scores(int64_t first_col, int n, float * s) const {
        for (int r = 0; r < n; r += QK_ROWS) {
            score_tile(c + r * stride, q + first_col, s + r * COLS);
        }
    }

    void score_tile(const float * rows, const float * qc, float * s) const {
        vf acc[QK_ROWS][COL_VF] = {};
        for (int64_t d = 0; d < width; d++) {
            vf qv[COL_VF];
            for (int j = 0; j < COL_VF; j++) {
                qv[j] = vf_load(qc + d * n_col_pad + j * VW);
            }
            for (int r = 0; r < QK_ROWS; r++) {
                for (int j = 0; j < COL_VF; j++) {
                    acc[r][j] += qv[j] * rows[r * stride + d];
                }
            }
        }
        for (int r = 0; r < QK_ROWS; r++) {
            for (int j = 0; j < COL_VF; j++) {
                vf_store(s + r * COLS + j * VW, acc[r][j]);
            }
        }
    }

    // o {COLS, rank_pad}; weights w[row][col] are the scores after the softmax; corr rescales what o holds
    void accumulate(const float * w, int n, const float * corr, float * o) const {
        int64_t d = 0;
        for (; d + PV_VF * VW <= rank_pad; d += PV_VF * VW) {
            for (int col = 0; col < COLS; col += PV_COLS) {
                value_tile<PV_VF>(w + col, n, corr + col, c + d, o + col * rank_pad + d);
            }
        }
        for (; d < rank_pad; d += VW) {
            for (int col = 0; col < COLS; col += PV_COLS) {
                value_tile<1>(w + col, n, corr + col, c + d, o + col * rank_pad + d);
            }
        }
    }

    void finish(float * /* o */) const {}

    template <int N> void value_tile(const float * w, int n, const float * corr, const float * rows, float * o) const {
        vf acc[PV_COLS][N];
        for (int i = 0; i < PV_COLS; i++) {
            for (int j = 0; j < N; j++) {
                acc[i][j] = vf_load(o + i * rank_pad + j * VW) * corr[i];
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
                vf_store(o + i * rank_pad + j * VW, acc[i][j]);
            }
        }
    }
};

}  // namespace plm
