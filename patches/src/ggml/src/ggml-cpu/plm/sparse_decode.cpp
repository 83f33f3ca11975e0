#include "sparse_decode.h"

#include "dense_dot.h"
#include "ggml-cpu-impl.h"
#include "sparse_axpy.h"
#include "sparse_profile.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace plm {

namespace {

// rows of `up` between two looks at what fired
constexpr int64_t CHUNK = 64;

struct range {
    int64_t begin;
    int64_t end;
};

range share(int64_t n, int ith, int nth) {
    return { n * ith / nth, n * (ith + 1) / nth };
}

// counts on cache lines of their own: every thread writes one
struct alignas(64) live_count {
    int64_t n;      // neurons that fired for some token
    int64_t fired;  // (neuron, token) pairs
};

// The work buffer. Every thread fills the part of `neuron` and `act` that belongs to its own range of neurons, so
// that lists need no locks and come out the same however the threads race.
struct work {
    live_count * count;   // [n_tasks]
    int32_t *    neuron;  // [n_ff]
    float *      act;     // [n_tokens][n_ff], at the neuron's place in the list
    float *      sum;     // [n_tasks][n_tokens][n_embd]
    char *       input;   // [n_tasks][n_tokens] prepared rows: each thread prepares its own, cheaper than a barrier
    size_t       input_size;
    size_t       size;

    work(const ffn_source & src, int n_tasks, void * data) {
        const int64_t n_tokens = src.n_tokens();
        size_t        at       = 0;
        const auto    take     = [&](size_t n) {
            char * p = (char *) data + at;
            at += GGML_PAD(n, 64);
            return p;
        };
        input_size = src.up ? dot_input_size(src.up->type, src.n_embd()) : 0;
        count      = (live_count *) take(n_tasks * sizeof(live_count));
        neuron     = (int32_t *) take(src.n_ff() * sizeof(int32_t));
        act        = (float *) take(n_tokens * src.n_ff() * sizeof(float));
        sum        = (float *) take(n_tasks * n_tokens * src.n_embd() * sizeof(float));
        input      = take(n_tasks * n_tokens * input_size);
        size       = at;
    }
};

const float * row_of(const ggml_tensor * t, int64_t i) {
    return (const float *) ((const char *) t->data + i * t->nb[1]);
}

struct decoder {
    const ggml_compute_params * params;
    const ffn_source &          src;
    const int64_t               n_tokens;
    const work                  buf;

    decoder(const ggml_compute_params * params, const ffn_source & src) :
        params(params),
        src(src),
        n_tokens(src.n_tokens()),
        buf(src, params->nth, params->wdata) {}

    float * thread_sum(int ith) const { return buf.sum + ith * n_tokens * src.n_embd(); }

    dot_inputs prepare_inputs() const {
        char * data = buf.input + params->ith * n_tokens * buf.input_size;
        for (int64_t t = 0; t < n_tokens; t++) {
            dot_input_prepare(src.up->type, row_of(src.x, t), data + t * buf.input_size, src.n_embd());
        }
        return { data, buf.input_size, n_tokens };
    }

    // one token: most neurons are dead, and four of those are passed over at once
    void collect_one(live_count & live, int64_t list, int64_t begin, int64_t n, const float * v) const {
        for (int64_t i = 0; i < n; i += 4) {
            const int64_t end = std::min(i + 4, n);
            if (end - i == 4 && v[i] == 0.0f && v[i + 1] == 0.0f && v[i + 2] == 0.0f && v[i + 3] == 0.0f) {
                continue;
            }
            for (int64_t j = i; j < end; j++) {
                buf.act[list + live.n]    = v[j];
                buf.neuron[list + live.n] = (int32_t) (begin + j);
                live.n += v[j] != 0.0f;
            }
        }
        live.fired = live.n;
    }

    // appends what fired among neurons begin .. begin + n; v[t * stride + i] belongs to neuron begin + i
    void collect(live_count & live, int64_t list, int64_t begin, int64_t n, const float * v, int64_t stride) const {
        if (n_tokens == 1) {
            collect_one(live, list, begin, n, v);
            return;
        }
        for (int64_t i = 0; i < n; i++) {
            const int64_t at    = list + live.n;
            int64_t       fired = 0;
            for (int64_t t = 0; t < n_tokens; t++) {
                const float a                = v[t * stride + i];
                buf.act[t * src.n_ff() + at] = a;
                fired += a != 0.0f;
            }
            buf.neuron[at] = (int32_t) (begin + i);
            live.n += fired > 0;
            live.fired += fired;
        }
    }

    void find_live_up(live_count & live, range mine) const {
        const dot_inputs inputs                    = prepare_inputs();
        float            v[DOT_MAX_TOKENS * CHUNK] = {};
        for (int64_t i = mine.begin; i < mine.end; i += CHUNK) {
            const int64_t n = std::min(CHUNK, mine.end - i);
            dot_rows(src.up, i, i + n, inputs, v, CHUNK);
            for (float & y : v) {
                y = y > 0.0f ? y * y : 0.0f;
            }
            collect(live, mine.begin, i, n, v, CHUNK);
        }
    }

    void find_live() const {
        const range mine = share(src.n_ff(), params->ith, params->nth);
        live_count  live = {};
        if (src.up) {
            find_live_up(live, mine);
        } else {
            const float * v = row_of(src.act, 0) + mine.begin;
            collect(live, mine.begin, mine.begin, mine.end - mine.begin, v, src.act->nb[1] / sizeof(float));
        }
        buf.count[params->ith] = live;
    }

    // this thread's even share of everything that fired, as places in the lists
    template <typename F> void for_my_live(F visit) const {
        int64_t total = 0;
        for (int i = 0; i < params->nth; i++) {
            total += buf.count[i].n;
        }
        const range mine  = share(total, params->ith, params->nth);
        int64_t     begin = 0;
        for (int i = 0; i < params->nth; i++) {
            const int64_t list = share(src.n_ff(), i, params->nth).begin;
            const int64_t end  = begin + buf.count[i].n;
            for (int64_t j = std::max(begin, mine.begin); j < std::min(end, mine.end); j++) {
                visit(list + j - begin);
            }
            begin = end;
        }
    }

    const char * down_row(int64_t at) const { return (const char *) src.down->data + buf.neuron[at] * src.down->nb[1]; }

    // one pass over the accumulators: rows at `places`, while `next` are on their way from memory
    void add_rows(const int64_t * places, int n, const axpy_rows & next) const {
        for (int64_t t = 0; t < n_tokens; t++) {
            axpy_rows rows;
            for (int j = 0; j < n; j++) {
                const float a = buf.act[t * src.n_ff() + places[j]];
                if (a != 0.0f) {
                    rows.row[rows.n]     = down_row(places[j]);
                    rows.scale[rows.n++] = a;
                }
            }
            if (rows.n > 0) {
                axpy(src.down->type, rows, next, src.n_embd(), thread_sum(params->ith) + t * src.n_embd());
            }
        }
    }

    // of this thread's share and the first token
    float largest_act() const {
        float top = 0.0f;
        for_my_live([&](int64_t at) { top = std::max(top, std::fabs(buf.act[at])); });
        return top;
    }

    static int level_of(float act, float top) {
        int level = 0;
        for (; level < AXPY_LEVELS - 1 && std::fabs(act) * AXPY_RANGE < top; level++) {
            top /= AXPY_RANGE;
        }
        return level;
    }

    void add_live() const {
        memset(thread_sum(params->ith), 0, n_tokens * src.n_embd() * sizeof(float));

        int64_t    places[2][AXPY_MAX_ROWS];
        int        n[2]  = { 0, 0 };  // the batch to add, and the one being gathered
        const auto flush = [&] {
            axpy_rows next;
            for (; next.n < n[1]; next.n++) {
                next.row[next.n] = down_row(places[1][next.n]);
            }
            add_rows(places[0], n[0], next);
            std::copy_n(places[1], n[1], places[0]);
            n[0] = n[1];
            n[1] = 0;
        };
        const float top = AXPY_LEVELS > 1 && n_tokens == 1 ? largest_act() : 0.0f;
        for (int level = 0; level < (top > 0.0f ? AXPY_LEVELS : 1); level++) {
            for_my_live([&](int64_t at) {
                if (top > 0.0f && level_of(buf.act[at], top) != level) {
                    return;
                }
                places[1][n[1]++] = at;
                if (n[1] == AXPY_MAX_ROWS) {
                    flush();
                }
            });
        }
        flush();
        flush();
    }

    void reduce(ggml_tensor * dst) const {
        constexpr int64_t LINE = 16;  // floats: threads must not share a cache line of dst

        const range lines = share((src.n_embd() + LINE - 1) / LINE, params->ith, params->nth);
        const range cols  = { lines.begin * LINE, std::min(lines.end * LINE, src.n_embd()) };
        for (int64_t t = 0; t < n_tokens; t++) {
            float *       y = (float *) ((char *) dst->data + t * dst->nb[1]);
            const float * s = thread_sum(0) + t * src.n_embd();
            std::copy(s + cols.begin, s + cols.end, y + cols.begin);
            for (int i = 1; i < params->nth; i++) {
                s = thread_sum(i) + t * src.n_embd();
                for (int64_t c = cols.begin; c < cols.end; c++) {
                    y[c] += s[c];
                }
            }
        }
    }

    void profile() const {
        if (params->ith != 0 || !profile_is_on()) {
            return;
        }
        int64_t fired = 0;
        for (int i = 0; i < params->nth; i++) {
            fired += buf.count[i].fired;
        }
        profile_live(src.down, fired, n_tokens * src.n_ff());
    }
};

}  // namespace

size_t decode_work_size(const ffn_source & src, int n_tasks) {
    return work(src, n_tasks, nullptr).size;
}

void decode_tokens(const ggml_compute_params * params, const ffn_source & src, ggml_tensor * dst) {
    const decoder d(params, src);
    d.find_live();
    ggml_barrier(params->threadpool);
    d.profile();
    d.add_live();
    ggml_barrier(params->threadpool);
    d.reduce(dst);
}

}  // namespace plm
