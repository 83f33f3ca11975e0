// Latent attention for few tokens, absorbed: with q' = k_b * q_nope the score of a cache row is the plain dot
// product [q' | q_pe] . [latent | k_pe], and the weighted sum of the latents goes through v_b once at the
// end. All heads share the cache, so a row is read once and multiplied with all of them:
//
//   prepare   q' for all heads and tokens, by latent dimension;  which rows are visible at all
//   -- barrier --
//   attend    every thread takes a run of visible rows: running max, sum and weighted latents per column
//   -- barrier --
//   finish    partial results of the threads are merged per head, then v_b

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

// where things are in params->wdata
struct decode_layout {
    int64_t n_col;      // columns of a stream: token-major (token, head)
    int64_t n_col_pad;  // to whole groups of COLS
    int64_t rank_pad;
    size_t  queries;    // float [n_stream][width][n_col_pad]
    size_t  visible;    // int32 [n_stream][n_kv], then per stream a count and whether the mask adds nothing to them
    size_t  partials;   // float [n_stream + n_tasks] slots
    size_t  scratch;    // [n_tasks]
    size_t  scratch_bytes;
    size_t  total;

    decode_layout(const latent_problem & p, int n_tasks, size_t attend_bytes) {
        n_col         = p.n_tps * p.n_head;
        n_col_pad     = GGML_PAD(n_col, COLS);
        rank_pad      = GGML_PAD(p.rank, 32);
        queries       = 0;
        visible       = queries + pad64(p.n_stream * p.width * n_col_pad * sizeof(float));
        partials      = visible + pad64(p.n_stream * (p.n_kv + 2) * sizeof(int32_t));
        scratch       = partials + (p.n_stream + n_tasks) * slot_floats() * sizeof(float);
        scratch_bytes = attend_bytes > heads_bytes(p) ? attend_bytes : heads_bytes(p);
        total         = scratch + n_tasks * scratch_bytes;
    }

    // a slot: per group of columns o[COLS][rank_pad], max[COLS], sum[COLS]
    int64_t group_floats() const { return COLS * (rank_pad + 2); }

    int64_t slot_floats() const { return n_col_pad / COLS * group_floats(); }

    // a vector of rank per token, and one expanded row of weights
    size_t heads_bytes(const latent_problem & p) const {
        const int64_t row = p.rank > p.nope ? p.rank : p.nope;
        return pad64(p.n_tokens * p.rank * sizeof(float)) + pad64(row * sizeof(float));
    }
};

constexpr int MAX_ROWS = 128;

struct row_block {
    int          n;
    int32_t      index[MAX_ROWS];
    const char * data[MAX_ROWS];
};

template <class block> struct decode {
    const latent_problem & p;
    const decode_layout    at;
    char *                 base;
    int                    ith;
    int                    nth;

    decode(const ggml_compute_params * params, const latent_problem & problem) :
        p(problem),
        at(problem, params->nth, attend_bytes(problem)),
        base((char *) params->wdata),
        ith(params->ith),
        nth(params->nth) {}

    static size_t attend_bytes(const latent_problem & p) {
        return block::scratch_bytes(p.rank, p.rope, GGML_PAD(p.n_tps * p.n_head, COLS));
    }

    float * queries(int64_t stream) const { return (float *) (base + at.queries) + stream * p.width * at.n_col_pad; }

    int32_t * visible(int64_t stream) const { return (int32_t *) (base + at.visible) + stream * p.n_kv; }

    int32_t & n_visible(int64_t stream) const { return visible(p.n_stream)[2 * stream]; }

    int32_t & is_open(int64_t stream) const { return visible(p.n_stream)[2 * stream + 1]; }

    float * slot(int64_t index) const { return (float *) (base + at.partials) + index * at.slot_floats(); }

    char * scratch() const { return base + at.scratch + ith * at.scratch_bytes; }

    void prepare() const;
    void absorb(int64_t head, int64_t begin, int64_t end) const;
    void copy_pe(int64_t begin, int64_t end) const;
    void list_visible(int64_t stream) const;

    range rows_of(int thread) const;
    void  attend() const;
    void  list_rows(int64_t stream, range rows, int most, row_block & b) const;
    void  attend_rows(block & kernel, int64_t stream, range rows) const;
    void  pass_over(block & kernel, int64_t stream, range rows) const;

    void finish() const;
    void merge(int64_t head, float * latent) const;
};

//
// prepare
//

// rows that some token sees; says whether all tokens see all of them, with nothing to add
template <class value>
int32_t list_seen(const latent_problem & p, int64_t stream, value hidden, int32_t * list, int32_t & is_open) {
    int32_t       n       = 0;
    int32_t       special = 0;
    const value * first   = (const value *) p.mask_row(stream, 0);
    for (int64_t j = 0; j < p.n_kv; j++) {
        int32_t seen  = first[j] != hidden;
        int32_t other = first[j] != value(0);
        for (int64_t t = 1; t < p.n_tps; t++) {
            const value m = ((const value *) p.mask_row(stream, t))[j];
            seen |= m != hidden;
            other |= m != value(0);
        }
        list[n] = (int32_t) j;
        n += seen;
        special |= seen & other;
    }
    is_open = !special;
    return n;
}

template <class block> void decode<block>::list_visible(int64_t stream) const {
    constexpr uint16_t minus_inf = 0xfc00;

    int32_t * list    = visible(stream);
    n_visible(stream) = p.mask->type == GGML_TYPE_F16 ?
                            list_seen<uint16_t>(p, stream, minus_inf, list, is_open(stream)) :
                            list_seen<float>(p, stream, -INFINITY, list, is_open(stream));
}

// y[i * stride] = factor * x[i]
void spread(const float * x, int64_t n, float factor, float * y, int64_t stride) {
    int64_t i = 0;
#if defined(__aarch64__)
    for (; i + 4 <= n; i += 4) {
        const float32x4_t v = vmulq_n_f32(vld1q_f32(x + i), factor);
        unroll<4>([&](auto lane) {
            vst1q_lane_f32(y, v, decltype(lane)::value);
            y += stride;
        });
    }
#endif
    for (; i < n; i++, y += stride) {
        *y = factor * x[i];
    }
}

// latent dimensions begin..end of one head's absorbed queries
template <class block> void decode<block>::absorb(int64_t head, int64_t begin, int64_t end) const {
    float *             out = (float *) scratch();
    float *             tmp = (float *) (scratch() + pad64(p.n_tokens * p.rank * sizeof(float)));
    const token_vectors y   = { out, end - begin };
    const auto          f   = p.k_b_trans ? head_axpy_rows : head_dot_rows;
    f(p.k_b, head, begin, end, p.q_at(0, head), p.q->nb[2] / sizeof(float), p.n_tokens, y, tmp);

    for (int64_t t = 0; t < p.n_tokens; t++) {
        float * q = queries(t / p.n_tps) + t % p.n_tps * p.n_head + head;
        spread(out + t * y.stride, end - begin, p.scale, q + begin * at.n_col_pad, at.n_col_pad);
    }
}

template <class block> void decode<block>::copy_pe(int64_t begin, int64_t end) const {
    for (int64_t t = 0; t < p.n_tokens; t++) {
        float * q = queries(t / p.n_tps) + t % p.n_tps * p.n_head;
        for (int64_t d = begin; d < end; d++) {
            for (int64_t h = 0; h < p.n_head; h++) {
                q[(p.rank + d) * at.n_col_pad + h] = p.scale * p.q_at(t, h)[p.nope + d];
            }
        }
    }
}

// split by dimension, not by head: a line of queries (one dimension, all columns) belongs to one thread
template <class block> void decode<block>::prepare() const {
    const int64_t whole = p.k_b_trans ? row_unit(p.k_b->type) : 16;
    const int64_t unit  = p.rank % whole == 0 ? whole : 1;
    const range   mine  = share(p.rank / unit, ith, nth);
    const range   pe    = share(p.rope, ith, nth);

    for (int64_t s = 0; s < p.n_stream && at.n_col < at.n_col_pad; s++) {
        for (int64_t d = 0; d < p.width; d++) {
            const bool own = d < p.rank ? d / unit >= mine.begin && d / unit < mine.end :
                                          d - p.rank >= pe.begin && d - p.rank < pe.end;
            if (own) {
                memset(queries(s) + d * at.n_col_pad + at.n_col, 0, (at.n_col_pad - at.n_col) * sizeof(float));
            }
        }
    }
    for (int64_t h = 0; h < p.n_head && mine.size() > 0; h++) {
        absorb(h, mine.begin * unit, mine.end * unit);
    }
    copy_pe(pe.begin, pe.end);
    for (int64_t s = ith; s < p.n_stream; s += nth) {
        list_visible(s);
    }
}

//
// attend
//

// visible rows of all streams in a row, cut into equal shares
template <class block> range decode<block>::rows_of(int thread) const {
    int64_t total = 0;
    for (int64_t s = 0; s < p.n_stream; s++) {
        total += n_visible(s);
    }
    return share(total, thread, nth);
}

// adds the mask to a group's scores; says so when no column sees any row, or nothing had to be added
mask_kind look_at_mask(const latent_problem & p,
                       int64_t                stream,
                       int64_t                first_col,
                       int64_t                n_col,
                       const row_block &      b) {
    const int64_t last_col = first_col + COLS < n_col ? first_col + COLS : n_col;
    bool          hidden   = true;
    bool          open     = true;
    for (int64_t t = first_col / p.n_head; t * p.n_head < last_col; t++) {
        const char * mask = p.mask_row(stream, t);
        for (int r = 0; r < b.n; r++) {
            const float m = mask_value(p, mask, b.index[r]);
            hidden &= m == -INFINITY;
            open &= m == 0.0f;
        }
    }
    return hidden ? mask_kind::hidden : open ? mask_kind::open : mask_kind::mixed;
}

void add_mask(const latent_problem & p,
              int64_t                stream,
              int64_t                first_col,
              int64_t                n_col,
              const row_block &      b,
              float *                s) {
    for (int64_t col = first_col; col < first_col + COLS && col < n_col; col++) {
        const char * mask = p.mask_row(stream, col / p.n_head);
        for (int r = 0; r < b.n; r++) {
            s[r * COLS + col - first_col] += mask_value(p, mask, b.index[r]);
        }
    }
}

// the first rows of the range, at most `most`
template <class block> void decode<block>::list_rows(int64_t stream, range rows, int most, row_block & b) const {
    b.n = (int) (rows.size() < most ? rows.size() : most);
    for (int r = 0; r < b.n; r++) {
        b.index[r] = visible(stream)[rows.begin + r];
        b.data[r]  = p.cache_row(stream, b.index[r]);
    }
}

// running softmax and values of the rows whose scores are in s
template <class block> void add_block(block & kernel, float * s, int n, const column_state & state, float * o) {
    alignas(64) float corr[COLS];
    state.update(s, n, corr);
    kernel.accumulate(s, n, corr, o);
}

// Almost always rows need no look beforehand; those that turn out to overflow are gone over once more.
template <class block, class pass> void with_trust(block & /* kernel */, ggml_type /* rows */, pass && go_over) {
    go_over();
}

#if defined(PLM_BLOCK_F16)
void add_block(block_f16 & kernel, float * s, int n, const column_state & state, float * o) {
    kernel.add_block(s, n, state, o);
}

template <class pass> void with_trust(block_f16 & kernel, ggml_type rows, pass && go_over) {
    kernel.expect(rows);
    kernel.trust(true);
    go_over();
    if (kernel.has_overflowed()) {
        kernel.trust(false);
        go_over();
    }
}
#endif

template <class block> void decode<block>::attend_rows(block & kernel, int64_t stream, range rows) const {
    with_trust(kernel, p.cache->type, [&] { pass_over(kernel, stream, rows); });
}

template <class block> void decode<block>::pass_over(block & kernel, int64_t stream, range rows) const {
    static_assert(block::ROWS <= MAX_ROWS, "row_block is too small");
    float * partial = slot(stream + ith);
    for (int64_t g = 0; g < at.n_col_pad / COLS; g++) {
        float * group = partial + g * at.group_floats();
        memset(group, 0, at.group_floats() * sizeof(float));
        for (int i = 0; i < COLS; i++) {
            group[COLS * at.rank_pad + i] = -INFINITY;
        }
    }
    row_block blocks[2];
    list_rows(stream, rows, block::ROWS, blocks[0]);
    for (int64_t i = 0; blocks[i % 2].n > 0; i++) {
        const row_block & b    = blocks[i % 2];
        row_block &       next = blocks[(i + 1) % 2];
        rows.begin += b.n;
        list_rows(stream, rows, block::ROWS, next);
        if (kernel.load_rows(p.cache->type, b.data, b.n) || i == 0) {
            for (int64_t g = 0; g < at.n_col_pad / COLS; g++) {
                kernel.set_queries(g, queries(stream) + g * COLS, at.n_col_pad);
            }
        }
        kernel.announce(next.data, next.n, p.cache->nb[1]);

        for (int64_t g = 0; g < at.n_col_pad / COLS; g++) {
            const mask_kind mask = is_open(stream) ? mask_kind::open : look_at_mask(p, stream, g * COLS, at.n_col, b);
            if (mask == mask_kind::hidden) {
                continue;
            }
            float *           group = partial + g * at.group_floats();
            alignas(64) float s[block::ROWS * COLS];
            kernel.scores(g, b.n, s, COLS);
            if (mask == mask_kind::mixed) {
                add_mask(p, stream, g * COLS, at.n_col, b, s);
            }
            const column_state state = { group + COLS * at.rank_pad, group + COLS * (at.rank_pad + 1) };
            add_block(kernel, s, b.n, state, group);
        }
    }
    for (int64_t g = 0; g < at.n_col_pad / COLS; g++) {
        kernel.finish(partial + g * at.group_floats());
    }
}

template <class block> void decode<block>::attend() const {
    const range mine = rows_of(ith);
    block       kernel(p.rank, p.rope, at.n_col_pad, scratch());
    int64_t     first = 0;  // of this stream, in the numbering of `mine`
    for (int64_t s = 0; s < p.n_stream; s++) {
        const int64_t n     = n_visible(s);
        const int64_t begin = mine.begin > first ? mine.begin - first : 0;
        const int64_t end   = mine.end - first < n ? mine.end - first : n;
        if (begin < end) {
            attend_rows(kernel, s, { begin, end });
        }
        first += n;
    }
}

//
// finish
//

// latent[token] = weighted mean of the latents, from the partial results of all threads
template <class block> void decode<block>::merge(int64_t head, float * latent) const {
    memset(latent, 0, p.n_tokens * p.rank * sizeof(float));
    int64_t first = 0;
    for (int64_t s = 0; s < p.n_stream; s++) {
        const int64_t end = first + n_visible(s);
        for (int64_t t = 0; t < p.n_tps; t++) {
            const int64_t col   = t * p.n_head + head;
            const int64_t group = col / COLS * at.group_floats();
            const int64_t lane  = col % COLS;
            float         max   = -INFINITY;
            float         sum   = 0.0f;
            const auto    each  = [&](auto && use) {
                for (int i = 0; i < nth; i++) {
                    const range rows = rows_of(i);
                    if (rows.begin < end && rows.end > first && rows.size() > 0) {
                        const float * part = slot(s + i) + group;
                        use(part + lane * at.rank_pad, part[COLS * at.rank_pad + lane],
                                part[COLS * (at.rank_pad + 1) + lane]);
                    }
                }
            };
            each([&](const float *, float m, float) { max = m > max ? m : max; });
            if (max == -INFINITY) {
                continue;
            }
            each([&](const float *, float m, float l) { sum += std::exp(m - max) * l; });
            each([&](const float * o, float m, float) {
                axpy_f32(latent + (s * p.n_tps + t) * p.rank, std::exp(m - max) / sum, o, p.rank);
            });
        }
        first = end;
    }
}

template <class block> void decode<block>::finish() const {
    float *     latent = (float *) scratch();
    float *     tmp    = (float *) (scratch() + pad64(p.n_tokens * p.rank * sizeof(float)));
    const range mine   = share(p.n_head * p.v, ith, nth);
    for (int64_t i = mine.begin; i < mine.end;) {
        const int64_t head  = i / p.v;
        const int64_t stop  = (head + 1) * p.v < mine.end ? (head + 1) * p.v : mine.end;
        const int64_t begin = i - head * p.v;
        merge(head, latent);
        head_dot_rows(p.v_b, head, begin, stop - head * p.v, latent, p.rank, p.n_tokens,
                      { p.dst_at(0, head) + begin, (int64_t) (p.dst->nb[2] / sizeof(float)) }, tmp);
        i = stop;
    }
}

template <class block> void run(const ggml_compute_params * params, const latent_problem & p) {
    const decode<block> d(params, p);
    d.prepare();
    ggml_barrier(params->threadpool);
    d.attend();
    ggml_barrier(params->threadpool);
    d.finish();
}

template <class block> size_t work_size(const latent_problem & p, int n_tasks) {
    return decode_layout(p, n_tasks, decode<block>::attend_bytes(p)).total;
}

}  // namespace

void latent_attn_decode(const ggml_compute_params * params, const latent_problem & p) {
#if defined(PLM_BLOCK_I16) || defined(PLM_BLOCK_F16)
    if (p.fits_short()) {
        run<block_short>(params, p);
        return;
    }
#endif
    run<block_f32>(params, p);
}

size_t latent_attn_decode_work_size(const latent_problem & p, int n_tasks) {
#if defined(PLM_BLOCK_I16) || defined(PLM_BLOCK_F16)
    if (p.fits_short()) {
        return work_size<block_short>(p, n_tasks);
    }
#endif
    return work_size<block_f32>(p, n_tasks);
}

}  // namespace plm
