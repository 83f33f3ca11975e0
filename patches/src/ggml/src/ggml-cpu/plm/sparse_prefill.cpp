#include "sparse_prefill.h"

#include "dense_gemm.h"
#include "ggml-cpu-impl.h"
#include "sparse_axpy.h"
#include "sparse_live_list.h"
#include "sparse_profile.h"

#include <algorithm>
#include <cstring>

namespace plm {

namespace {

// a bound on the work buffer: longer prompts go in batches
constexpr int64_t MAX_TOKENS = 512;

// columns of `down` unpacked at a time, for one segment of neurons: 64 KiB for blocks of 32, which measured best
// (2026-11, Zen 5: half of it costs 6 %, twice as much 8 %)
int64_t tile_cols(ggml_type type) {
    return std::max<int64_t>(LIST_COLS, ggml_blck_size(type));
}

size_t tile_floats(ggml_type type) {
    return tile_cols(type) * LIST_NEURONS;
}

// Up to so many live tokens a neuron, going over the rows of each token costs less than unpacking all of `down`
// first (2026-11, Zen 5; at 9 % live these are the prompts of up to 55 tokens).
constexpr int64_t DIRECT_UP_TO = 5;

// output columns of one thread then, in whole blocks and cache lines
int64_t direct_cols(const ffn_source & src, int n_threads) {
    const int64_t block = std::max<int64_t>(ggml_blck_size(src.down->type), 128);
    return (src.n_embd() / n_threads + block - 1) / block * block;
}

struct work {
    live_lists lists;
    char *     inputs;   // packed x
    char *     scratch;  // [n_tasks] unpacked rows of up
    float *    tile;     // [n_tasks] unpacked piece of down
    float *    sum;      // [n_tasks][tokens][tile_cols]
    size_t     scratch_size;
    size_t     size;

    work(const ffn_source & src, int n_tasks, void * data) {
        const int64_t n_tokens = std::min(src.n_tokens(), MAX_TOKENS);
        size_t        at       = 0;
        const auto    take     = [&](size_t n) {
            char * p = (char *) data + at;
            at += GGML_PAD(n, 64);
            return p;
        };
        lists        = live_lists(src.n_ff(), n_tokens, nullptr);
        lists        = live_lists(src.n_ff(), n_tokens, take(lists.size));
        scratch_size = src.up ? gemm_scratch_size(src.up->type, src.n_embd()) : 0;
        inputs       = take(src.up ? gemm_input_size(src.up->type, src.n_embd(), n_tokens) : 0);
        scratch      = take(n_tasks * scratch_size);
        tile         = (float *) take(n_tasks * tile_floats(src.down->type) * sizeof(float));
        sum          = (float *) take(n_tasks * n_tokens * tile_cols(src.down->type) * sizeof(float));
        size         = at;
    }
};

struct prefill {
    const ggml_compute_params * params;
    const ffn_source &          src;
    work                        buf;
    int64_t                     first    = 0;  // token
    int64_t                     n_tokens = 0;

    prefill(const ggml_compute_params * params, const ffn_source & src) :
        params(params),
        src(src),
        buf(src, params->nth, params->wdata) {}

    // tasks 0 .. n, to whichever thread is free; the threads meet before the first and after the last
    template <typename F> void for_each_task(int64_t n, F run) const {
        if (params->ith == 0) {
            ggml_threadpool_chunk_set(params->threadpool, params->nth);
        }
        ggml_barrier(params->threadpool);
        for (int64_t i = params->ith; i < n; i = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            run(i);
        }
        ggml_barrier(params->threadpool);
    }

    int64_t n_segments() const { return buf.lists.n_segments; }

    // up * x for one segment of neurons; only what fired leaves the registers' neighbourhood
    void list_from_up(int64_t segment) const {
        const int64_t   begin    = segment * LIST_NEURONS;
        const int64_t   n        = std::min(LIST_NEURONS, src.n_ff() - begin);
        const int64_t   per_tile = gemm_tile_tokens(src.up->type);
        const gemm_rows rows     = gemm_pack_rows(src.up, begin, n, buf.scratch + params->ith * buf.scratch_size);

        live_lists::writer out(buf.lists, segment);
        float              y[16 * LIST_NEURONS] = {};
        for (int64_t t = 0; t < n_tokens; t += per_tile) {
            const int64_t m = std::min(per_tile, n_tokens - t);
            gemm_tile(rows, buf.inputs, t / per_tile, m, y, LIST_NEURONS);
            for (int64_t i = 0; i < m; i++) {
                relu_sqr(y + i * LIST_NEURONS);
                out.add_token(y + i * LIST_NEURONS);
            }
        }
    }

    void list_from_act(int64_t segment) const {
        const int64_t begin = segment * LIST_NEURONS;
        const int64_t n     = std::min(LIST_NEURONS, src.n_ff() - begin);

        live_lists::writer out(buf.lists, segment);
        float              y[LIST_NEURONS] = {};
        for (int64_t t = 0; t < n_tokens; t++) {
            const float * act = (const float *) ((const char *) src.act->data + (first + t) * src.act->nb[1]);
            std::copy_n(act + begin, n, y);
            out.add_token(y);
        }
    }

    void unpack_tile(int64_t first_neuron, int64_t n_neurons, int64_t first_col, int64_t n_cols, float * tile) const {
        const int64_t width  = tile_cols(src.down->type);
        const size_t  offset = ggml_row_size(src.down->type, first_col);
        for (int64_t i = 0; i < n_neurons; i++) {
            const char * row = (const char *) src.down->data + (first_neuron + i) * src.down->nb[1] + offset;
            dequantize(src.down->type, row, n_cols, tile + i * width);
            std::fill(tile + i * width + n_cols, tile + (i + 1) * width, 0.0f);
        }
    }

    void add_segment_dense(int64_t segment, int64_t n_neurons, const float * tile, int64_t width, float * sum) const {
        for (int64_t t = 0; t < n_tokens; t += DENSE_TOKENS) {
            live_list     lists[DENSE_TOKENS];
            const int64_t n = std::min(DENSE_TOKENS, n_tokens - t);
            for (int64_t i = 0; i < n; i++) {
                lists[i] = buf.lists.of(segment, t + i);
            }
            add_dense(lists, n, tile, n_neurons, width, sum + t * width);
        }
    }

    // one range of output columns, for all tokens
    void down_columns(int64_t task, ggml_tensor * dst) const {
        const int64_t width     = tile_cols(src.down->type);
        const int64_t first_col = task * width;
        const int64_t n_cols    = std::min(width, src.n_embd() - first_col);
        float *       tile      = buf.tile + params->ith * tile_floats(src.down->type);
        float *       sum       = buf.sum + params->ith * std::min(src.n_tokens(), MAX_TOKENS) * width;

        std::fill_n(sum, n_tokens * width, 0.0f);
        for (int64_t s = 0; s < n_segments(); s++) {
            const int64_t n_neurons = std::min(LIST_NEURONS, src.n_ff() - s * LIST_NEURONS);
            unpack_tile(s * LIST_NEURONS, n_neurons, first_col, n_cols, tile);
            if (dense_pays(buf.lists.end_of(s, n_tokens), n_tokens * n_neurons)) {
                add_segment_dense(s, n_neurons, tile, width, sum);
                continue;
            }
            for (int64_t t = 0; t < n_tokens; t++) {
                add_list(buf.lists.of(s, t), tile, width, sum + t * width);
            }
        }
        for (int64_t t = 0; t < n_tokens; t++) {
            std::copy_n(sum + t * width, n_cols, (float *) ((char *) dst->data + (first + t) * dst->nb[1]) + first_col);
        }
    }

    // for few tokens: rows straight from the file's layout, each of them once for every token that wants it
    void down_rows(int64_t task, ggml_tensor * dst) const {
        const int64_t width     = direct_cols(src, params->nth);
        const int64_t first_col = task * width;
        const int64_t n_cols    = std::min(width, src.n_embd() - first_col);
        const size_t  offset    = ggml_row_size(src.down->type, first_col);

        for (int64_t t = 0; t < n_tokens; t++) {
            std::fill_n((float *) ((char *) dst->data + (first + t) * dst->nb[1]) + first_col, n_cols, 0.0f);
        }
        for (int64_t s = 0; s < n_segments(); s++) {
            const char * rows = (const char *) src.down->data + s * LIST_NEURONS * src.down->nb[1] + offset;
            for (int64_t t = 0; t < n_tokens; t++) {
                const live_list list  = buf.lists.of(s, t);
                float *         y     = (float *) ((char *) dst->data + (first + t) * dst->nb[1]) + first_col;
                axpy_rows       batch = gather(list, 0, rows);
                for (int64_t i = AXPY_MAX_ROWS; batch.n > 0; i += AXPY_MAX_ROWS) {
                    const axpy_rows next = gather(list, i, rows);
                    axpy(src.down->type, batch, next, n_cols, y);
                    batch = next;
                }
            }
        }
    }

    axpy_rows gather(const live_list & list, int64_t begin, const char * rows) const {
        axpy_rows batch;
        for (int64_t i = begin; i < list.n && batch.n < AXPY_MAX_ROWS; i++) {
            batch.row[batch.n]     = rows + list.neuron[i] * src.down->nb[1];
            batch.scale[batch.n++] = list.act[i];
        }
        return batch;
    }

    int64_t n_live() const {
        int64_t n = 0;
        for (int64_t s = 0; s < n_segments(); s++) {
            n += buf.lists.end_of(s, n_tokens);
        }
        return n;
    }

    void profile() const {
        if (params->ith != 0 || !profile_is_on()) {
            return;
        }
        profile_live(src.down, n_live(), n_tokens * src.n_ff());
    }

    void run(int64_t begin, int64_t n, ggml_tensor * dst) {
        first    = begin;
        n_tokens = n;
        if (src.up) {
            gemm_pack_inputs(src.up->type, src.x, first, n_tokens, buf.inputs, params->ith, params->nth);
        }
        for_each_task(n_segments(), [&](int64_t s) { src.up ? list_from_up(s) : list_from_act(s); });
        profile();
        const bool    direct = n_live() <= DIRECT_UP_TO * src.n_ff();
        const int64_t width  = direct ? direct_cols(src, params->nth) : tile_cols(src.down->type);
        for_each_task((src.n_embd() + width - 1) / width,
                      [&](int64_t task) { direct ? down_rows(task, dst) : down_columns(task, dst); });
    }
};

}  // namespace

size_t prefill_work_size(const ffn_source & src, int n_tasks) {
    return work(src, n_tasks, nullptr).size;
}

void prefill_tokens(const ggml_compute_params * params, const ffn_source & src, ggml_tensor * dst) {
    prefill p(params, src);
    for (int64_t t = 0; t < src.n_tokens(); t += MAX_TOKENS) {
        p.run(t, std::min(MAX_TOKENS, src.n_tokens() - t), dst);
    }
}

}  // namespace plm
