// The squared-ReLU FFN kernels of GGML_OP_PLM against float64, for every weight type, odd shapes, token counts on
// both sides of each kernel's switch, and one or two threads. Prints a line per case; exit code 1 on any failure.
//   usage: test-plm-ffn [substring of the cases to run]

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-plm.h"
#include "ggml.h"
#include "test-plm-backend.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace {

using floats  = std::vector<float>;
using doubles = std::vector<double>;

std::mt19937 rng(1234);

float normal() {
    static std::normal_distribution<float> dist;
    return dist(rng);
}

// which neurons fire
enum live_set { LIVE_NONE, LIVE_ONE, LIVE_TENTH, LIVE_ALL };

const char * name_of(live_set live) {
    static const char * const names[] = { "none", "one", "tenth", "all" };
    return names[live];
}

struct shape {
    int64_t n_embd;
    int64_t n_ff;
};

// a weight matrix as the kernel sees it, and what its bytes mean
struct weights {
    ggml_type         type;
    std::vector<char> data;
    doubles           values;  // row-major

    weights(ggml_type type, const floats & rows, int64_t n_cols) : type(type) {
        const int64_t n_rows = rows.size() / n_cols;
        floats        back(rows.size());
        data.resize(ggml_row_size(type, n_cols) * n_rows);
        if (type == GGML_TYPE_F32) {
            memcpy(data.data(), rows.data(), data.size());
            back = rows;
        } else {
            ggml_quantize_chunk(type, rows.data(), data.data(), 0, n_rows, n_cols, nullptr);
            ggml_get_type_traits(type)->to_float(data.data(), back.data(), rows.size());
        }
        values.assign(back.begin(), back.end());
    }
};

// builds a graph of one node, runs it on n_threads and hands the result back
struct runner {
    ggml_context * ctx;

    struct input {
        ggml_tensor * tensor;
        const void *  data;
    };

    std::vector<input> inputs;

    runner() : ctx(ggml_init({ ggml_tensor_overhead() * 16 + ggml_graph_overhead(), nullptr, true })) {}

    ~runner() { ggml_free(ctx); }

    ggml_tensor * add(ggml_type type, int64_t ne0, int64_t ne1, const void * data) {
        inputs.push_back({ ggml_new_tensor_2d(ctx, type, ne0, ne1), data });
        return inputs.back().tensor;
    }

    std::vector<char> compute(ggml_tensor * node, int n_threads) {
        ggml_cgraph * graph = ggml_new_graph(ctx);
        ggml_build_forward_expand(graph, node);
        ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(ctx, plm_backend().backend);
        for (const input & in : inputs) {
            ggml_backend_tensor_set(in.tensor, in.data, 0, ggml_nbytes(in.tensor));
        }
        std::vector<char> out(ggml_nbytes(node), (char) 0xff);  // as floats these are no numbers
        ggml_backend_tensor_set(node, out.data(), 0, out.size());
        plm_backend().compute(graph, n_threads);
        ggml_backend_tensor_get(node, out.data(), 0, out.size());
        ggml_backend_buffer_free(buffer);
        return out;
    }

    floats run(ggml_tensor * node, int n_threads) {
        const std::vector<char> bytes = compute(node, n_threads);
        floats                  out(bytes.size() / sizeof(float));
        memcpy(out.data(), bytes.data(), bytes.size());
        return out;
    }
};

// ggml offers no to_float for Q8_K, which exists for dot products alone: a float scale, 256 values, 16 sums
void q8_K_to_float(const void * src, float * dst, int64_t n) {
    constexpr size_t block_size = sizeof(float) + 256 + 16 * sizeof(int16_t);
    for (int64_t i = 0; i < n; i++) {
        const char * block = (const char *) src + i / 256 * block_size;
        float        d;
        memcpy(&d, block, sizeof(d));
        dst[i] = d * (int8_t) block[sizeof(d) + i % 256];
    }
}

// the type that activations are rounded to before they meet weights of this type
ggml_type input_type(ggml_type weight_type) {
    switch (weight_type) {
        case GGML_TYPE_Q4_0:
        case GGML_TYPE_Q8_0:
            return GGML_TYPE_Q8_0;
        case GGML_TYPE_Q4_K:
        case GGML_TYPE_Q5_K:
        case GGML_TYPE_Q6_K:
            return GGML_TYPE_Q8_K;
        default:
            return weight_type;
    }
}

// what ggml's own mul_mat would see of x; rounded by the backend itself, whose ties may fall its own way
doubles rounded_input(ggml_type weight_type, const floats & x, int64_t n_cols) {
    const ggml_type type = input_type(weight_type);
    floats          back(x);
    if (type != GGML_TYPE_F32) {
        runner            r;
        ggml_tensor *     in       = r.add(GGML_TYPE_F32, n_cols, x.size() / n_cols, x.data());
        std::vector<char> rows     = r.compute(ggml_cast(r.ctx, in, type), 1);
        const auto        to_float = type == GGML_TYPE_Q8_K ? q8_K_to_float : ggml_get_type_traits(type)->to_float;
        to_float(rows.data(), back.data(), x.size());
    }
    return doubles(back.begin(), back.end());
}

// y[t][r] = w[r] . x[t]
doubles matmul(const doubles & w, const doubles & x, int64_t n_cols) {
    const int64_t n_rows = w.size() / n_cols;
    const int64_t n_x    = x.size() / n_cols;
    doubles       y(n_rows * n_x);
    for (int64_t t = 0; t < n_x; t++) {
        for (int64_t r = 0; r < n_rows; r++) {
            double sum = 0.0;
            for (int64_t c = 0; c < n_cols; c++) {
                sum += w[r * n_cols + c] * x[t * n_cols + c];
            }
            y[t * n_rows + r] = sum;
        }
    }
    return y;
}

// y[t] = sum of act[t][i] * w[i]
doubles down(const doubles & w, const doubles & act, int64_t n_ff) {
    const int64_t n_embd = w.size() / n_ff;
    const int64_t n_x    = act.size() / n_ff;
    doubles       y(n_x * n_embd, 0.0);
    for (int64_t t = 0; t < n_x; t++) {
        for (int64_t i = 0; i < n_ff; i++) {
            const double a = act[t * n_ff + i];
            for (int64_t c = 0; a != 0.0 && c < n_embd; c++) {
                y[t * n_embd + c] += a * w[i * n_embd + c];
            }
        }
    }
    return y;
}

void relu_sqr(doubles & v) {
    for (double & y : v) {
        y = y > 0.0 ? y * y : 0.0;
    }
}

// the largest error against the largest value; NaN and infinity anywhere are infinitely wrong
double error_of(const floats & got, const doubles & want) {
    double largest = 0.0;
    double error   = 0.0;
    for (size_t i = 0; i < want.size(); i++) {
        if (!std::isfinite(got[i])) {
            return INFINITY;
        }
        largest = std::max(largest, std::fabs(want[i]));
        error   = std::max(error, std::fabs(got[i] - want[i]));
    }
    return largest > 0.0 ? error / largest : error;
}

struct tally {
    std::string filter;
    int         n_run    = 0;
    int         n_failed = 0;

    bool wants(const std::string & name) const { return name.find(filter) != std::string::npos; }

    void report(const std::string & name, double error, double tolerance) {
        const bool ok = error <= tolerance;
        printf("%-64s error %.1e (<= %.0e) %s\n", name.c_str(), error, tolerance, ok ? "ok" : "FAIL");
        n_run++;
        n_failed += !ok;
    }
};

// rows of `up` whose dot product with a positive x has the sign the case asks for
floats up_rows(shape s, live_set live) {
    floats rows(s.n_embd * s.n_ff);
    for (int64_t i = 0; i < s.n_ff; i++) {
        const bool fires = live == LIVE_ALL || (live == LIVE_ONE && i == s.n_ff / 2);
        for (int64_t c = 0; c < s.n_embd; c++) {
            const float v          = normal();
            rows[i * s.n_embd + c] = live == LIVE_TENTH ? v : (fires ? std::fabs(v) : -std::fabs(v));
        }
    }
    return rows;
}

// for LIVE_TENTH the rows are random and x leans against them: about a tenth stays positive
floats ffn_input(const floats & up, shape s, live_set live, int64_t n_tokens) {
    floats mean(s.n_embd, 0.0f);
    for (size_t i = 0; i < up.size(); i++) {
        mean[i % s.n_embd] += up[i] / s.n_ff;
    }
    floats x(s.n_embd * n_tokens);
    for (size_t i = 0; i < x.size(); i++) {
        x[i] =
            live == LIVE_TENTH ? normal() - mean[i % s.n_embd] * 1.3f * std::sqrt((float) s.n_ff) : std::fabs(normal());
    }
    return x;
}

std::string case_name(const char * kind, ggml_type type, shape s, live_set live, int64_t n_tokens, int n_threads) {
    return std::string(kind) + " " + ggml_type_name(type) + " embd=" + std::to_string(s.n_embd) +
           " ff=" + std::to_string(s.n_ff) + " live=" + name_of(live) + " tokens=" + std::to_string(n_tokens) +
           " threads=" + std::to_string(n_threads);
}

// with SDOT the activations that meet Q4_0 rows of `down` are rounded to 16 bits
double tolerance_of(ggml_type down_type, double tolerance) {
    return down_type == GGML_TYPE_Q4_0 && plm_backend().has("DOTPROD") ? 2e-4 : tolerance;
}

// where there is fp16 arithmetic, ggml's dot product of F16 rows sums in it
double dot_tolerance(ggml_type type, double tolerance) {
    return type == GGML_TYPE_F16 && plm_backend().has("FP16_VA") ? 1e-2 : tolerance;
}

void test_ffn(tally &   t,
              ggml_type up_type,
              ggml_type down_type,
              shape     s,
              live_set  live,
              int64_t   n_tokens,
              int       n_threads) {
    const std::string name =
        case_name("ffn ", up_type, s, live, n_tokens, n_threads) + " down=" + ggml_type_name(down_type);
    if (!t.wants(name)) {
        return;
    }
    const floats  up_f32 = up_rows(s, live);
    const floats  x      = ffn_input(up_f32, s, live, n_tokens);
    const weights up(up_type, up_f32, s.n_embd);
    floats        down_f32(s.n_embd * s.n_ff);
    std::generate(down_f32.begin(), down_f32.end(), normal);
    const weights down_w(down_type, down_f32, s.n_embd);

    doubles act = matmul(up.values, rounded_input(up_type, x, s.n_embd), s.n_embd);
    relu_sqr(act);
    const doubles want = down(down_w.values, act, s.n_ff);

    runner        r;
    ggml_tensor * node = ggml_plm_sparse_ffn(r.ctx, r.add(up_type, s.n_embd, s.n_ff, up.data.data()),
                                             r.add(GGML_TYPE_F32, s.n_embd, n_tokens, x.data()),
                                             r.add(down_type, s.n_embd, s.n_ff, down_w.data.data()));
    t.report(name, error_of(r.run(node, n_threads), want), dot_tolerance(up_type, tolerance_of(down_type, 2e-5)));
}

void test_down(tally & t, ggml_type type, shape s, live_set live, int64_t n_tokens, int n_threads, float scale) {
    const std::string name = case_name(scale < 1.0f ? "tiny" : "down", type, s, live, n_tokens, n_threads);
    if (!t.wants(name)) {
        return;
    }
    floats act(s.n_ff * n_tokens);
    for (size_t i = 0; i < act.size(); i++) {
        const int64_t neuron = i % s.n_ff;
        const bool    fires =
            live == LIVE_ALL || (live == LIVE_ONE && neuron == s.n_ff / 2) || (live == LIVE_TENTH && normal() > 1.3f);
        act[i] = fires ? normal() * normal() * scale : 0.0f;
    }
    floats down_f32(s.n_embd * s.n_ff);
    std::generate(down_f32.begin(), down_f32.end(), normal);
    const weights w(type, down_f32, s.n_embd);
    const doubles want = down(w.values, doubles(act.begin(), act.end()), s.n_ff);

    runner        r;
    ggml_tensor * node = ggml_plm_sparse_down(r.ctx, r.add(type, s.n_embd, s.n_ff, w.data.data()),
                                              r.add(GGML_TYPE_F32, s.n_ff, n_tokens, act.data()));
    // activations so small that activation times block scale is denormal: fewer bits, but never dropped
    t.report(name, error_of(r.run(node, n_threads), want), scale < 1.0f ? 2e-3 : tolerance_of(type, 1e-5));
}

// weights and activations of a product: any, or all as low or as high as their type goes
enum extreme { NOT_EXTREME, LOWEST, HIGHEST };

// a product of weights with activations, and what it must give
struct product {
    ggml_type type;
    int64_t   k;
    int64_t   n_rows;
    int64_t   n_tokens;
    extreme   values = NOT_EXTREME;

    std::string name(const char * kind, int n_threads) const {
        static const char * const suffix[] = { "", " lowest", " highest" };
        return std::string(kind) + " " + ggml_type_name(type) + " k=" + std::to_string(k) +
               " rows=" + std::to_string(n_rows) + " tokens=" + std::to_string(n_tokens) +
               " threads=" + std::to_string(n_threads) + suffix[values];
    }

    // one of 32 weights is the one that all others are measured by
    float weight(size_t i) const {
        return values == NOT_EXTREME ? normal() : values == LOWEST || i % 32 == 0 ? -1.0f : 0.93f;
    }

    // runs what `node` makes of the activations
    void check(tally &                                                                        t,
               const std::string &                                                            name,
               int                                                                            n_threads,
               const std::function<ggml_tensor *(runner &, const weights &, ggml_tensor *)> & node) const {
        floats w_f32(k * n_rows);
        floats x(k * n_tokens);
        for (size_t i = 0; i < w_f32.size(); i++) {
            w_f32[i] = weight(i);
        }
        for (float & v : x) {
            v = values == NOT_EXTREME ? normal() : values == LOWEST ? 1.0f : -1.0f;
        }
        const weights w(type, w_f32, k);
        const doubles want = matmul(w.values, rounded_input(type, x, k), k);

        runner        r;
        ggml_tensor * out = node(r, w, r.add(GGML_TYPE_F32, k, n_tokens, x.data()));
        t.report(name, error_of(r.run(out, n_threads), want), dot_tolerance(type, 5e-6));
    }
};

void test_mul_mat(tally & t, const product & p, int n_threads) {
    const std::string name = p.name("mul_mat", n_threads);
    if (t.wants(name)) {
        p.check(t, name, n_threads, [&](runner & r, const weights & w, ggml_tensor * x) {
            return ggml_plm_mul_mat(r.ctx, r.add(p.type, p.k, p.n_rows, w.data.data()), x);
        });
    }
}

// where ggml's own product keeps weights rearranged at load, which the kernels in plm/ carry out on some CPUs
ggml_backend_buffer_type_t repack_buffer_type() {
    const auto get = (ggml_backend_dev_get_extra_bufts_t) plm_backend().address("ggml_backend_dev_get_extra_bufts");
    ggml_backend_buffer_type_t * types = get ? get(ggml_backend_get_device(plm_backend().backend)) : nullptr;
    for (; types && *types; types++) {
        if (strcmp(ggml_backend_buft_name(*types), "CPU_REPACK") == 0) {
            return *types;
        }
    }
    return nullptr;
}

void test_repacked(tally & t, const product & p, int n_threads) {
    const std::string          name        = p.name("repacked", n_threads);
    ggml_backend_buffer_type_t buffer_type = repack_buffer_type();
    if (!t.wants(name) || !buffer_type) {
        return;
    }
    ggml_context *        ctx    = ggml_init({ ggml_tensor_overhead(), nullptr, true });
    ggml_tensor *         rows   = ggml_new_tensor_2d(ctx, p.type, p.k, p.n_rows);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors_from_buft(ctx, buffer_type);
    if (rows->extra) {  // else this CPU has no rearranged form of the type
        p.check(t, name, n_threads, [&](runner & r, const weights & w, ggml_tensor * x) {
            ggml_backend_tensor_set(rows, w.data.data(), 0, w.data.size());
            return ggml_mul_mat(r.ctx, rows, x);
        });
    }
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
}

// numbers of rows that fill a pass over rearranged rows, or part of one, or none; numbers of tokens around its four
void test_all_repacked(tally & t, ggml_type type, int n_threads) {
    const int64_t block = ggml_blck_size(type);
    for (const int64_t n_rows : { 4, 8, 16, 24, 48, 136 }) {
        test_repacked(t, { type, block, n_rows, 1 }, n_threads);
        test_repacked(t, { type, 2048, n_rows, 4 }, n_threads);
        test_repacked(t, { type, 8192, n_rows, 1 }, n_threads);
    }
    for (int64_t n = 1; n <= 9; n++) {
        test_repacked(t, { type, 3 * block, 48, n }, n_threads);
    }
    test_repacked(t, { type, 4096, 16, 38 }, n_threads);
    for (const extreme values : { LOWEST, HIGHEST }) {
        test_repacked(t, { type, 2048, 48, 1, values }, n_threads);
        test_repacked(t, { type, 2048, 48, 5, values }, n_threads);
    }
}

// two runs with as many threads must agree to the last bit
void test_repeatable(tally & t, ggml_type type, shape s, int64_t n_tokens) {
    const std::string name = case_name("same", type, s, LIVE_TENTH, n_tokens, 2);
    if (!t.wants(name)) {
        return;
    }
    const floats  up_f32 = up_rows(s, LIVE_TENTH);
    const floats  x      = ffn_input(up_f32, s, LIVE_TENTH, n_tokens);
    const weights up(type, up_f32, s.n_embd);
    floats        first;
    double        difference = 0.0;
    for (int i = 0; i < 5; i++) {
        runner        r;
        ggml_tensor * node = ggml_plm_sparse_ffn(r.ctx, r.add(type, s.n_embd, s.n_ff, up.data.data()),
                                                 r.add(GGML_TYPE_F32, s.n_embd, n_tokens, x.data()),
                                                 r.add(type, s.n_embd, s.n_ff, up.data.data()));
        const floats  out  = r.run(node, 2);
        if (first.empty()) {
            first = out;
        }
        difference += memcmp(first.data(), out.data(), out.size() * sizeof(float)) != 0;
    }
    t.report(name, difference, 0.0);
}

}  // namespace

int main(int argc, char ** argv) {
    plm_backend();
    tally t;
    t.filter = argc > 1 ? argv[1] : "";

    const ggml_type types[] = { GGML_TYPE_Q4_0, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K,
                                GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_F32,  GGML_TYPE_Q5_K };

    for (const ggml_type type : types) {
        const int64_t              block        = ggml_blck_size(type) > 32 ? 256 : 32;
        const shape                small        = { block, 7 };
        const shape                odd          = { 3 * block, 131 };
        const shape                normal_shape = { 1024, 777 };
        const std::vector<int64_t> tokens       = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 33 };

        for (const int n_threads : { 1, 2 }) {
            for (const live_set live : { LIVE_NONE, LIVE_ONE, LIVE_TENTH, LIVE_ALL }) {
                for (const int64_t n : { 1, 3, 33 }) {
                    test_ffn(t, type, type, small, live, n, n_threads);
                    test_ffn(t, type, type, odd, live, n, n_threads);
                    test_down(t, type, odd, live, n, n_threads, 1.0f);
                }
            }
            for (const int64_t n : { 1, 2, 7, 8, 9, 14, 33, 100 }) {
                test_mul_mat(t, { type, block, 1, n }, n_threads);
                test_mul_mat(t, { type, 3 * block, 45, n }, n_threads);
                test_mul_mat(t, { type, 2048, 131, n }, n_threads);
            }
            for (const int64_t n : tokens) {
                test_ffn(t, type, type, normal_shape, LIVE_TENTH, n, n_threads);
            }
            test_down(t, type, normal_shape, LIVE_TENTH, 1, n_threads, 1e-38f);
            test_down(t, type, normal_shape, LIVE_TENTH, 33, n_threads, 1e-38f);
            test_ffn(t, type, type, odd, LIVE_TENTH, 512, n_threads);
        }
        test_down(t, type, odd, LIVE_ALL, 512, 2, 1.0f);
        test_repeatable(t, type, normal_shape, 1);
        test_repeatable(t, type, normal_shape, 40);
    }
    for (const ggml_type type : { GGML_TYPE_Q4_0, GGML_TYPE_Q6_K }) {
        for (const int n_threads : { 1, 2 }) {
            test_all_repacked(t, type, n_threads);
        }
    }
    // the mix of a Q4_K_M file
    test_ffn(t, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K, { 512, 300 }, LIVE_TENTH, 1, 2);
    test_ffn(t, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K, { 512, 300 }, LIVE_TENTH, 40, 2);

    printf("%d cases, %d failed\n", t.n_run, t.n_failed);
    return t.n_failed > 0;
}
