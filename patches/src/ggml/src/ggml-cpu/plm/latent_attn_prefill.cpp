// Latent attention for many tokens: per head, K and V are rebuilt from the latent tile by tile, which costs
// rank * (nope + v) products per cache row once, and saves 3.4 times as many per row and token against the
// absorbed form. A tile is rebuilt once per head and used by all tokens; nothing larger than a tile of K and
// V is ever stored.
//
//   look      which tiles each group of tokens sees, for all heads          (split over tiles)
//   -- barrier --
//   for every head of the thread:
//     weights and queries to the block's format, once
//     for every tile that someone sees:
//       rebuild   [K_nope | V] = latent * [k_b | v_b],  K = [K_nope | k_pe]
//       for every group of 16 tokens that sees it:  scores, running softmax, values

#include "ggml-cpu-impl.h"
#include "head_matvec.h"
#include "latent_attn.h"
#include "latent_attn_block_f16.h"
#include "latent_attn_block_f32.h"
#include "latent_attn_block_i16.h"
#include "latent_attn_simd.h"
#include "latent_attn_softmax.h"

#include <cmath>
#include <cstring>

namespace plm {

namespace {

#if defined(PLM_BLOCK_I16)
using block_short = block_i16;
#elif defined(PLM_BLOCK_F16)
using block_short = block_f16;
#endif

size_t pad64(size_t bytes) {
    return GGML_PAD(bytes, 64);
}

constexpr int TILE = 64;  // cache rows

template <class block> struct prefill_layout {
    int64_t nope_pad;  // to whole groups of columns
    int64_t v_pad;
    int64_t n_group;   // groups of COLS tokens of a stream
    int64_t n_tile;

    // offsets into params->wdata
    size_t kinds;    // mask_kind [n_stream][n_tile][n_group]
    size_t scratch;  // [n_tasks]

    // offsets into a thread's scratch
    size_t rebuild;  // the three blocks
    size_t keys;
    size_t values;
    size_t weights;  // float [rank][nope_pad + v_pad], then a group of rows or of queries
    size_t tile;     // float [TILE][nope_pad + v_pad], then k_pe [TILE][rope]
    size_t output;   // float [n_group][COLS][v_pad + max + sum]
    size_t scratch_bytes;
    size_t total;

    prefill_layout(const latent_problem & p, int n_tasks) {
        nope_pad = GGML_PAD(p.nope, 32);
        v_pad    = GGML_PAD(p.v, 32);
        n_group  = (p.n_tps + COLS - 1) / COLS;
        n_tile   = (p.n_kv + TILE - 1) / TILE;

        const int64_t n_out = nope_pad + v_pad;

        kinds         = 0;
        scratch       = pad64(p.n_stream * n_tile * n_group);
        rebuild       = 0;
        keys          = rebuild + pad64(block::scratch_bytes(p.rank, 0, n_out));
        values        = keys + pad64(block::scratch_bytes(p.nope, p.rope, n_group * COLS));
        weights       = values + pad64(block::scratch_bytes(p.v, 0, 0));
        tile          = weights + pad64((p.rank * n_out + COLS * (p.rank + p.nope + p.rope)) * sizeof(float));
        output        = tile + pad64(TILE * (n_out + p.rope) * sizeof(float));
        scratch_bytes = output + pad64(n_group * group_floats() * sizeof(float));
        total         = scratch + n_tasks * scratch_bytes;
    }

    int64_t group_floats() const { return COLS * (v_pad + 2); }
};

template <class block> struct prefill {
    const latent_problem &      p;
    const prefill_layout<block> at;
    int                         ith;
    int                         nth;
    mask_kind *                 kinds;
    char *                      scratch;
    float *                     weights;
    float *                     tile;
    float *                     output;
    block                       rebuild;
    block                       keys;
    block                       values;

    prefill(const ggml_compute_params * params, const latent_problem & problem) :
        p(problem),
        at(problem, params->nth),
        ith(params->ith),
        nth(params->nth),
        kinds((mask_kind *) ((char *) params->wdata + at.kinds)),
        scratch((char *) params->wdata + at.scratch + ith * at.scratch_bytes),
        weights((float *) (scratch + at.weights)),
        tile((float *) (scratch + at.tile)),
        output((float *) (scratch + at.output)),
        rebuild(p.rank, 0, at.nope_pad + at.v_pad, scratch + at.rebuild),
        keys(p.nope, p.rope, at.n_group * COLS, scratch + at.keys),
        values(p.v, 0, 0, scratch + at.values) {}

    int64_t n_out() const { return at.nope_pad + at.v_pad; }

    int64_t rows_in(int64_t t) const { return (t + 1) * TILE < p.n_kv ? TILE : p.n_kv - t * TILE; }

    mask_kind & kind(int64_t stream, int64_t t, int64_t group) const {
        return kinds[(stream * at.n_tile + t) * at.n_group + group];
    }

    void      look() const;
    mask_kind look_at(int64_t stream, int64_t t, int64_t group) const;
    void      set_weights(int64_t head);
    void      set_columns();
    void      set_queries(int64_t stream, int64_t head);
    bool      is_seen(int64_t stream, int64_t t) const;
    void      rebuild_tile(int64_t stream, int64_t head, int64_t t);
    void      attend(int64_t stream, int64_t t, int64_t group);
    void      add_mask(int64_t stream, int64_t t, int64_t group, float * s) const;
    void      write(int64_t stream, int64_t head) const;
    void      run_head(int64_t stream, int64_t head);
};

//
// masks
//

// bit 0: something is visible, bit 1: something is not simply visible
template <class value> int scan(const value * m, int64_t n, value hidden, value open) {
    int visible = 0;
    int special = 0;
    for (int64_t j = 0; j < n; j++) {
        visible |= m[j] != hidden;
        special |= m[j] != open;
    }
    return visible | special << 1;
}

template <class block> mask_kind prefill<block>::look_at(int64_t stream, int64_t t, int64_t group) const {
    int seen = 0;
    for (int64_t i = group * COLS; i < (group + 1) * COLS && i < p.n_tps; i++) {
        const char * mask = p.mask_row(stream, i);
        if (p.mask->type == GGML_TYPE_F16) {
            seen |= scan<uint16_t>((const uint16_t *) mask + t * TILE, rows_in(t), 0xfc00, 0);
        } else {
            seen |= scan<float>((const float *) mask + t * TILE, rows_in(t), -INFINITY, 0.0f);
        }
    }
    return (seen & 1) == 0 ? mask_kind::hidden : (seen & 2) == 0 ? mask_kind::open : mask_kind::mixed;
}

template <class block> void prefill<block>::look() const {
    const range mine = share(p.n_stream * at.n_tile, ith, nth);
    for (int64_t i = mine.begin; i < mine.end; i++) {
        for (int64_t g = 0; g < at.n_group; g++) {
            kind(i / at.n_tile, i % at.n_tile, g) = look_at(i / at.n_tile, i % at.n_tile, g);
        }
    }
}

template <class block> bool prefill<block>::is_seen(int64_t stream, int64_t t) const {
    for (int64_t g = 0; g < at.n_group; g++) {
        if (kind(stream, t, g) != mask_kind::hidden) {
            return true;
        }
    }
    return false;
}

template <class block> void prefill<block>::add_mask(int64_t stream, int64_t t, int64_t group, float * s) const {
    for (int64_t i = group * COLS; i < (group + 1) * COLS && i < p.n_tps; i++) {
        const char * mask = p.mask_row(stream, i);
        for (int64_t r = 0; r < rows_in(t); r++) {
            float &     x = s[r * COLS + i % COLS];
            const float m = mask_value(p, mask, t * TILE + r);
            x             = m == -INFINITY ? m : x + m;  // a hidden row may hold anything
        }
    }
}

//
// a head's weights and queries
//

// rows of `w` as columns: to[r * stride + i] = row i, value r; tmp holds COLS rows
void transpose_rows(const ggml_tensor * w, int64_t head, float * to, int64_t stride, float * tmp) {
    for (int64_t i = 0; i < w->ne[1]; i += COLS) {
        const int64_t n = i + COLS < w->ne[1] ? COLS : w->ne[1] - i;
        for (int64_t k = 0; k < n; k++) {
            row_to_f32(w->type, (const char *) w->data + head * w->nb[2] + (i + k) * w->nb[1], 0, w->ne[0],
                       tmp + k * w->ne[0]);
        }
        transpose(tmp, w->ne[0], n, w->ne[0], to + i, stride);
    }
}

template <class block> void prefill<block>::set_weights(int64_t head) {
    float * tmp = weights + p.rank * n_out();
    memset(weights, 0, p.rank * n_out() * sizeof(float));
    if (p.k_b_trans) {
        transpose_rows(p.k_b, head, weights, n_out(), tmp);
    } else {
        for (int64_t r = 0; r < p.rank; r++) {
            row_to_f32(p.k_b->type, (const char *) p.k_b->data + head * p.k_b->nb[2] + r * p.k_b->nb[1], 0, p.nope,
                       weights + r * n_out());
        }
    }
    transpose_rows(p.v_b, head, weights + at.nope_pad, n_out(), tmp);
    set_columns();
}

template <class block> void prefill<block>::set_columns() {
    for (int64_t g = 0; g < n_out() / COLS; g++) {
        rebuild.set_queries(g, weights + g * COLS, n_out());
    }
}

template <class block> void prefill<block>::set_queries(int64_t stream, int64_t head) {
    float *       q     = weights + p.rank * n_out();
    const int64_t width = p.nope + p.rope;
    for (int64_t g = 0; g < at.n_group; g++) {
        const int64_t first = g * COLS;
        const int64_t n     = first + COLS < p.n_tps ? COLS : p.n_tps - first;
        if (n < COLS) {
            memset(q, 0, width * COLS * sizeof(float));
        }
        transpose(p.q_at(stream * p.n_tps + first, head), p.q->nb[2] / sizeof(float), n, width, q, COLS);
        for (int64_t i = 0; i < width * COLS; i++) {
            q[i] *= p.scale;
        }
        keys.set_queries(g, q, COLS);
    }
}

//
// attention
//

template <class block> void prefill<block>::rebuild_tile(int64_t stream, int64_t head, int64_t t) {
    float * pe = tile + TILE * n_out();
    for (int64_t first = 0; first < rows_in(t); first += block::ROWS) {
        const char * rows[block::ROWS];
        const int    n = (int) (rows_in(t) - first < block::ROWS ? rows_in(t) - first : block::ROWS);
        for (int r = 0; r < n; r++) {
            rows[r] = p.cache_row(stream, t * TILE + first + r);
        }
        if (rebuild.load_rows(p.cache->type, rows, n)) {
            set_columns();
        }
        for (int64_t g = 0; g < n_out() / COLS; g++) {
            rebuild.scores(g, n, tile + first * n_out() + g * COLS, n_out());
        }
    }
    for (int64_t r = 0; r < rows_in(t); r++) {
        row_to_f32(p.cache->type, p.cache_row(stream, t * TILE + r), p.rank, p.rope, pe + r * p.rope);
    }
    if (keys.load_floats(tile, n_out(), pe, p.rope, (int) rows_in(t))) {
        set_queries(stream, head);
    }
    values.load_floats(tile + at.nope_pad, n_out(), nullptr, 0, (int) rows_in(t));
}

template <class block> void prefill<block>::attend(int64_t stream, int64_t t, int64_t group) {
    const int         n     = (int) rows_in(t);
    float *           state = output + group * at.group_floats();
    float *           max   = state + COLS * at.v_pad;
    alignas(64) float s[TILE * COLS];
    alignas(64) float corr[COLS];

    keys.scores(group, n, s, COLS);
    if (kind(stream, t, group) == mask_kind::mixed) {
        add_mask(stream, t, group, s);
    }
    const column_state softmax = { max, max + COLS };
    softmax.update(s, n, corr);
    values.accumulate(s, n, corr, state);
}

template <class block> void prefill<block>::write(int64_t stream, int64_t head) const {
    for (int64_t t = 0; t < p.n_tps; t++) {
        float *       state = output + t / COLS * at.group_floats();
        const float * o     = state + t % COLS * at.v_pad;
        const float   sum   = state[COLS * (at.v_pad + 1) + t % COLS];
        const float   norm  = sum > 0.0f ? 1.0f / sum : 0.0f;
        float *       y     = p.dst_at(stream * p.n_tps + t, head);
        for (int64_t d = 0; d < p.v; d++) {
            y[d] = norm * o[d];
        }
    }
}

template <class block> void prefill<block>::run_head(int64_t stream, int64_t head) {
    keys.forget_scales();
    values.forget_scales();
    set_weights(head);
    set_queries(stream, head);
    memset(output, 0, at.n_group * at.group_floats() * sizeof(float));
    for (int64_t g = 0; g < at.n_group; g++) {
        for (int i = 0; i < COLS; i++) {
            output[g * at.group_floats() + COLS * at.v_pad + i] = -INFINITY;
        }
    }
    for (int64_t t = 0; t < at.n_tile; t++) {
        if (!is_seen(stream, t)) {
            continue;
        }
        rebuild_tile(stream, head, t);
        for (int64_t g = 0; g < at.n_group; g++) {
            if (kind(stream, t, g) != mask_kind::hidden) {
                attend(stream, t, g);
            }
        }
    }
    for (int64_t g = 0; g < at.n_group; g++) {
        values.finish(output + g * at.group_floats());
    }
    write(stream, head);
}

template <class block> void run(const ggml_compute_params * params, const latent_problem & p) {
    prefill<block> f(params, p);
    f.look();
    ggml_barrier(params->threadpool);
    const range mine = share(p.n_stream * p.n_head, params->ith, params->nth);
    for (int64_t i = mine.begin; i < mine.end; i++) {
        f.run_head(i / p.n_head, i % p.n_head);
    }
}

}  // namespace

void latent_attn_prefill(const ggml_compute_params * params, const latent_problem & p) {
#if defined(PLM_BLOCK_I16) || defined(PLM_BLOCK_F16)
    if (p.fits_short()) {
        run<block_short>(params, p);
        return;
    }
#endif
    run<block_f32>(params, p);
}

size_t latent_attn_prefill_work_size(const latent_problem & p, int n_tasks) {
#if defined(PLM_BLOCK_I16) || defined(PLM_BLOCK_F16)
    if (p.fits_short()) {
        return prefill_layout<block_short>(p, n_tasks).total;
    }
#endif
    return prefill_layout<block_f32>(p, n_tasks).total;
}

}  // namespace plm
