// The attention kernels of GGML_OP_PLM alone, against float64: every cache and weight type, odd sizes, masks,
// streams, thread counts. Prints a line per case with the relative error; exits with 1 if one is too large.
//
//   test-plm-attn [substring of the case names to run]

#include "ggml-plm.h"
#include "ggml.h"
#include "test-plm-backend.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace {

int         n_failed = 0;
int         n_run    = 0;
std::string filter;

struct context {
    ggml_context * ctx;

    explicit context(size_t bytes) : ctx(ggml_init({ bytes, nullptr, false })) {}

    ~context() { ggml_free(ctx); }
};

// a tensor of any type filled with random values, and the values it really holds
struct values {
    ggml_tensor *       tensor;
    std::vector<double> exact;  // in tensor order
};

std::mt19937 & random_engine() {
    static std::mt19937 engine(42);
    return engine;
}

values make(ggml_context * ctx, ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2, float deviation) {
    const int64_t                   n = ne0 * ne1 * ne2;
    std::normal_distribution<float> normal(0.0f, 1.0f);
    std::vector<float>              source(n);
    for (float & x : source) {
        x = deviation * normal(random_engine());
    }
    values v;
    v.tensor = ggml_new_tensor_3d(ctx, type, ne0, ne1, ne2);
    std::vector<float> back(source);
    if (type == GGML_TYPE_F32) {
        memcpy(v.tensor->data, source.data(), n * sizeof(float));
    } else {
        ggml_quantize_chunk(type, source.data(), v.tensor->data, 0, ne1 * ne2, ne0, nullptr);
        ggml_get_type_traits(type)->to_float(v.tensor->data, back.data(), n);
    }
    v.exact.assign(back.begin(), back.end());
    return v;
}

void compute(ggml_context * ctx, ggml_tensor * result, int n_threads) {
    ggml_cgraph * graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, result);
    plm_backend().compute(graph, n_threads);
}

// largest |got - want| of a vector relative to the vector's norm; not-a-number counts as infinite
double relative_error(const float * got, const double * want, int64_t n) {
    double difference = 0.0;
    double norm       = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if (!std::isfinite(got[i])) {
            return INFINITY;
        }
        difference += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return norm > 0.0 ? std::sqrt(difference / norm) : difference > 0.0 ? INFINITY : 0.0;
}

void report(const std::string & name, double error, double limit) {
    const bool ok = error <= limit;
    printf("%-4s %-110s error %.2e (limit %.0e)\n", ok ? "ok" : "FAIL", name.c_str(), error, limit);
    n_run++;
    n_failed += !ok;
}

bool skipped(const std::string & name) {
    return name.find(filter) == std::string::npos;
}

// with SDOT or VPDPBUSD the vector that meets k_b and v_b is rounded to 15 bits per block
bool has_int8_dots() {
    return plm_backend().has("DOTPROD") || plm_backend().has("AVX512_VNNI");
}

//
// head_matvec
//

void test_head_matvec(ggml_type type, int64_t k, int64_t m, int64_t n_tokens, int64_t n_head, bool trans, int threads) {
    const std::string name = "head_matvec " + std::string(ggml_type_name(type)) + " k=" + std::to_string(k) +
                             " m=" + std::to_string(m) + " tokens=" + std::to_string(n_tokens) +
                             " heads=" + std::to_string(n_head) + (trans ? " trans" : "") +
                             " threads=" + std::to_string(threads);
    if (skipped(name)) {
        return;
    }
    context       c(64 * 1024 * 1024);
    const values  w   = make(c.ctx, type, trans ? m : k, trans ? k : m, n_head, 1.0f);
    const values  x   = make(c.ctx, GGML_TYPE_F32, k, n_tokens, n_head, 1.0f);
    ggml_tensor * out = ggml_plm_head_matvec(c.ctx, w.tensor, x.tensor, trans);
    compute(c.ctx, out, threads);

    double              worst = 0.0;
    std::vector<double> want(m);
    for (int64_t h = 0; h < n_head; h++) {
        for (int64_t t = 0; t < n_tokens; t++) {
            for (int64_t r = 0; r < m; r++) {
                want[r] = 0.0;
                for (int64_t i = 0; i < k; i++) {
                    want[r] +=
                        w.exact[(trans ? i * m + r : r * k + i) + h * k * m] * x.exact[i + (t + h * n_tokens) * k];
                }
            }
            const float * got = (const float *) out->data + (t + h * n_tokens) * m;
            worst             = std::fmax(worst, relative_error(got, want.data(), m));
        }
    }
    report(name, worst, has_int8_dots() ? 2e-4 : 2e-6);
}

//
// latent_attn
//

enum class pattern {
    causal,    // token i sees the first n_kv - n_tps + i + 1 rows
    tail,      // only the first third is visible (a padded cache)
    holes,     // every third row is hidden, differently for each token
    separate,  // token t sees only rows of sequence t
    blind,     // the last token sees nothing
    slopes,    // finite values other than 0
};

const char * name_of(pattern p) {
    static const char * const names[] = { "causal", "tail", "holes", "separate", "blind", "slopes" };
    return names[(int) p];
}

struct attn_case {
    ggml_type cache     = GGML_TYPE_F16;
    ggml_type weights   = GGML_TYPE_Q8_0;
    ggml_type mask      = GGML_TYPE_F32;
    int64_t   rank      = 512;
    int64_t   rope      = 64;
    int64_t   nope      = 128;
    int64_t   v         = 128;
    int64_t   n_head    = 16;
    int64_t   n_kv      = 256;
    int64_t   n_tps     = 1;
    int64_t   n_stream  = 1;
    bool      trans     = false;
    pattern   hidden    = pattern::causal;
    int       threads   = 1;
    float     magnitude = 1.0f;  // of the cache
    float     sharpness = 1.0f;  // deviation of the scores
    float     outlier   = 1.0f;  // one latent dimension is this much larger
    double    limit     = 2e-6;  // set by the type when left alone

    std::string name() const {
        char text[256];
        snprintf(text, sizeof(text),
                 "latent_attn %s w=%s%s mask=%s/%s dims=%d+%d/%d/%d heads=%d kv=%d tokens=%dx%d%s threads=%d",
                 ggml_type_name(cache), ggml_type_name(weights), trans ? "^T" : "", ggml_type_name(mask),
                 name_of(hidden), (int) rank, (int) rope, (int) nope, (int) v, (int) n_head, (int) n_kv, (int) n_tps,
                 (int) n_stream,
                 magnitude < 1e-4f ? " denormal" :
                 magnitude > 1e3f  ? " large" :
                 outlier > 1.0f    ? " outlier" :
                 sharpness > 1.0f  ? " sharp" :
                                     "",
                 threads);
        return text;
    }
};

float mask_value(const attn_case & c, int64_t stream, int64_t t, int64_t j) {
    switch (c.hidden) {
        case pattern::causal:
            return j <= c.n_kv - c.n_tps + t - stream % 3 ? 0.0f : -INFINITY;
        case pattern::tail:
            return j < (c.n_kv + 2) / 3 ? 0.0f : -INFINITY;
        case pattern::holes:
            return (j + t) % 3 != 0 || j == 1 ? 0.0f : -INFINITY;
        case pattern::separate:
            return j * c.n_tps / c.n_kv == t ? 0.0f : -INFINITY;
        case pattern::blind:
            return t < c.n_tps - 1 ? 0.0f : -INFINITY;
        case pattern::slopes:
            return -0.01f * (float) ((j * 7 + t) % 100);
    }
    return 0.0f;
}

ggml_tensor * make_mask(ggml_context * ctx, const attn_case & c) {
    ggml_tensor * m = ggml_new_tensor_4d(ctx, c.mask, c.n_kv, c.n_tps, 1, c.n_stream);
    for (int64_t i = 0; i < ggml_nelements(m); i++) {
        const float x = mask_value(c, i / (c.n_kv * c.n_tps), i / c.n_kv % c.n_tps, i % c.n_kv);
        if (c.mask == GGML_TYPE_F32) {
            ((float *) m->data)[i] = x;
        } else {
            ((ggml_fp16_t *) m->data)[i] = ggml_fp32_to_fp16(x);
        }
    }
    return m;
}

// makes dimension 3 of every row `factor` times larger, in the tensor and in the exact values
void scale_dimension(values & cache, float factor) {
    const int64_t      width = cache.tensor->ne[0];
    const ggml_type    type  = cache.tensor->type;
    std::vector<float> row(width);
    for (int64_t i = 0; i < ggml_nrows(cache.tensor); i++) {
        std::copy(cache.exact.begin() + i * width, cache.exact.begin() + (i + 1) * width, row.begin());
        row[3] *= factor;
        char * data = (char *) cache.tensor->data + i * cache.tensor->nb[1];
        if (type == GGML_TYPE_F32) {
            memcpy(data, row.data(), width * sizeof(float));
        } else {
            ggml_quantize_chunk(type, row.data(), data, 0, 1, width, nullptr);
            ggml_get_type_traits(type)->to_float(data, row.data(), width);
        }
        std::copy(row.begin(), row.end(), cache.exact.begin() + i * width);
    }
}

// the attention of one token and head in float64, through the expanded K and V so that the algebra of the
// absorbed form is checked too
void reference(const attn_case & c,
               const values &    q,
               const values &    cache,
               const values &    k_b,
               const values &    v_b,
               double            scale,
               int64_t           token,
               int64_t           h,
               double *          out) {
    const int64_t       stream = token / c.n_tps;
    const int64_t       width  = c.rank + c.rope;
    const double *      qh     = q.exact.data() + (token * c.n_head + h) * (c.nope + c.rope);
    const double *      w      = k_b.exact.data() + h * c.rank * c.nope;
    std::vector<double> absorbed(c.rank, 0.0);
    for (int64_t r = 0; r < c.rank; r++) {
        for (int64_t d = 0; d < c.nope; d++) {
            absorbed[r] += qh[d] * w[c.trans ? d * c.rank + r : r * c.nope + d];
        }
    }
    std::vector<double> score(c.n_kv, -INFINITY);
    double              max = -INFINITY;
    for (int64_t j = 0; j < c.n_kv; j++) {
        const double m = mask_value(c, stream, token % c.n_tps, j);
        if (m == -INFINITY) {
            continue;
        }
        const double * row = cache.exact.data() + (stream * c.n_kv + j) * width;
        double         s   = 0.0;
        for (int64_t r = 0; r < c.rank; r++) {
            s += absorbed[r] * row[r];
        }
        for (int64_t d = 0; d < c.rope; d++) {
            s += qh[c.nope + d] * row[c.rank + d];
        }
        score[j] = s * scale + (c.mask == GGML_TYPE_F16 ? ggml_fp16_to_fp32(ggml_fp32_to_fp16((float) m)) : m);
        max      = std::fmax(max, score[j]);
    }
    std::vector<double> latent(c.rank, 0.0);
    double              sum = 0.0;
    for (int64_t j = 0; j < c.n_kv && max > -INFINITY; j++) {
        if (score[j] == -INFINITY) {
            continue;
        }
        const double   p   = std::exp(score[j] - max);
        const double * row = cache.exact.data() + (stream * c.n_kv + j) * width;
        sum += p;
        for (int64_t r = 0; r < c.rank; r++) {
            latent[r] += p * row[r];
        }
    }
    for (int64_t i = 0; i < c.v; i++) {
        double y = 0.0;
        for (int64_t r = 0; r < c.rank; r++) {
            y += v_b.exact[(h * c.v + i) * c.rank + r] * latent[r];
        }
        out[i] = sum > 0.0 ? y / sum : 0.0;
    }
}

void test_latent_attn(const attn_case & c) {
    if (skipped(c.name())) {
        return;
    }
    const int64_t n_tokens = c.n_tps * c.n_stream;
    context       ctx(256 * 1024 * 1024 + (size_t) c.n_kv * c.n_stream * (c.rank + c.rope) * 4 +
                      (size_t) n_tokens * c.n_kv * 8 + (size_t) n_tokens * c.n_head * (c.nope + c.rope + c.v) * 8);
    values        cache = make(ctx.ctx, c.cache, c.rank + c.rope, c.n_kv, c.n_stream, c.magnitude);
    if (c.outlier > 1.0f) {
        scale_dimension(cache, c.outlier);
    }
    const values  q     = make(ctx.ctx, GGML_TYPE_F32, c.nope + c.rope, c.n_head, n_tokens, c.sharpness / c.magnitude);
    ggml_tensor * mask  = make_mask(ctx.ctx, c);
    const float   unit  = 1.0f / std::sqrt((float) c.rank);
    const values  k_b   = c.trans ? make(ctx.ctx, c.weights, c.rank, c.nope, c.n_head, unit) :
                                    make(ctx.ctx, c.weights, c.nope, c.rank, c.n_head, unit);
    const values  v_b   = make(ctx.ctx, c.weights, c.rank, c.v, c.n_head, unit);
    const float   scale = 1.0f / std::sqrt((float) (c.nope + c.rope));

    ggml_tensor * out =
        ggml_plm_latent_attn(ctx.ctx, q.tensor, cache.tensor, mask, k_b.tensor, v_b.tensor, c.trans, scale);
    compute(ctx.ctx, out, c.threads);

    // the reference is slow: look at every pair when there are few, else at a spread of them
    const int64_t       n_pairs = n_tokens * c.n_head;
    const int64_t       step    = n_pairs * c.n_kv > 20000 ? 1 + n_pairs * c.n_kv / 20000 : 1;
    double              worst   = 0.0;
    std::vector<double> want(c.v);
    for (int64_t i = n_pairs - 1; i >= 0; i -= step) {
        reference(c, q, cache, k_b, v_b, scale, i / c.n_head, i % c.n_head, want.data());
        const float * got = (const float *) out->data + i * c.v;
        worst             = std::fmax(worst, relative_error(got, want.data(), c.v));
    }
    report(c.name(), worst, c.limit);
}

// An f32 cache is computed in float. For the others q, rows and weights may be rounded to about what f16
// resolves; a rounded score becomes a relative error of its weight, so sharp distributions show more of it.
// An outlier makes the scores sharp and what comes out a small difference of large values; the blocks of q8_0
// share its scale, and a prompt rounds the keys and values rebuilt with it once more.
// ARM's fp16 multiply-add rounds the sums as well, and for prompts twice: rebuilding K and V, then with them.
double limit_of(const attn_case & c) {
    if (c.cache == GGML_TYPE_F32) {
        const double exact = has_int8_dots() ? 2e-4 : 1e-5;
        return exact * c.sharpness * (c.outlier > 1.0f ? 10.0 : 1.0);
    }
    const bool fp16 = plm_backend().has("FP16_VA");
    if (c.outlier > 1.0f) {
        return fp16 ? 2e-1 : c.n_tps > 64 ? 3e-2 : c.cache == GGML_TYPE_Q8_0 ? 2e-2 : 5e-3;
    }
    return (!fp16 ? 1.0 : c.n_tps > 64 ? 8.0 : 5.0) * (c.sharpness > 1.0f ? 1e-2 : 1e-3);
}

void test_attention() {
    const ggml_type caches[] = { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0 };
    const auto      each     = [&](attn_case c) {
        for (ggml_type type : caches) {
            c.cache = type;
            c.limit = limit_of(c);
            for (int threads : { 1, 2 }) {
                c.threads = threads;
                test_latent_attn(c);
            }
        }
    };
    const auto with = [](const std::function<void(attn_case &)> & change) {
        attn_case c;
        change(c);
        return c;
    };

    for (int64_t n_kv : { 1, 2, 15, 31, 33, 64, 100, 256, 777, 2048, 4095, 8192 }) {
        each(with([&](attn_case & c) { c.n_kv = n_kv; }));
    }
    for (int64_t n_tps : { 2, 3, 5, 8, 9, 16, 40, 129 }) {
        each(with([&](attn_case & c) { c.n_tps = n_tps, c.n_kv = 300; }));
    }
    for (int hidden = 0; hidden <= (int) pattern::slopes; hidden++) {
        for (ggml_type mask : { GGML_TYPE_F16, GGML_TYPE_F32 }) {
            each(with([&](attn_case & c) { c.hidden = (pattern) hidden, c.mask = mask, c.n_tps = 4, c.n_kv = 333; }));
        }
    }
    for (int64_t n_stream : { 2, 3, 7 }) {
        each(with([&](attn_case & c) { c.n_stream = n_stream, c.n_tps = 2, c.n_kv = 190; }));
        each(with([&](attn_case & c) { c.n_stream = n_stream, c.n_tps = 70, c.n_kv = 190; }));
    }
    for (int64_t n_head : { 1, 3, 8, 12, 20, 32 }) {
        each(with([&](attn_case & c) { c.n_head = n_head, c.n_kv = 130; }));
        each(with([&](attn_case & c) { c.n_head = n_head, c.n_tps = 65, c.n_kv = 130; }));
    }
    for (int64_t n_tps : { 1, 3, 67 }) {
        each(with(
            [&](attn_case & c) { c.rank = 32, c.rope = 32, c.nope = 32, c.v = 32, c.n_tps = n_tps, c.n_kv = 70; }));
        each(with([&](attn_case & c) {
            c.rank = 96, c.rope = 32, c.nope = 64, c.v = 96, c.n_head = 5, c.n_tps = n_tps, c.n_kv = 70;
        }));
        each(with(
            [&](attn_case & c) { c.rank = 160, c.rope = 96, c.nope = 32, c.v = 64, c.n_tps = n_tps, c.n_kv = 70; }));
        each(with(
            [&](attn_case & c) { c.rank = 256, c.rope = 32, c.nope = 96, c.v = 64, c.n_tps = n_tps, c.n_kv = 1000; }));
        each(with([&](attn_case & c) { c.sharpness = 8.0f, c.n_tps = n_tps, c.n_kv = 500; }));
        each(with([&](attn_case & c) { c.outlier = 50.0f, c.n_tps = n_tps, c.n_kv = 500; }));
    }
    each(with([&](attn_case & c) { c.n_tps = 300, c.n_kv = 1100; }));
    for (int64_t n_tps : { 1, 3 }) {
        // beyond what halfs can add up
        each(with([&](attn_case & c) { c.magnitude = 1e4f, c.n_tps = n_tps, c.n_kv = 300; }));
    }
    test_latent_attn(with([&](attn_case & c) { c.magnitude = 3e-6f, c.n_tps = 90, c.limit = limit_of(c); }));
    test_latent_attn(with([&](attn_case & c) { c.magnitude = 3e-6f, c.limit = limit_of(c); }));
    test_latent_attn(with([&](attn_case & c) {
        c.magnitude = 1e-30f, c.cache = GGML_TYPE_F32, c.limit = has_int8_dots() ? 1e-3 : 1e-5;
    }));

    for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q8_0,
                            GGML_TYPE_Q4_K, GGML_TYPE_Q6_K, GGML_TYPE_Q5_K }) {
        for (int threads : { 1, 2, 3 }) {
            attn_case c;
            c.weights = type;
            c.threads = threads;
            c.limit   = limit_of(c);
            for (int64_t n_tps : { 1, 2, 80 }) {
                c.n_tps = n_tps;
                c.trans = true;
                test_latent_attn(c);
                c.trans = false;
                if (ggml_blck_size(type) <= 128) {
                    test_latent_attn(c);
                }
            }
        }
    }
}

void test_matvec() {
    for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q8_0,
                            GGML_TYPE_Q4_K, GGML_TYPE_Q6_K, GGML_TYPE_Q5_K }) {
        for (int threads : { 1, 2 }) {
            test_head_matvec(type, 512, 128, 1, 16, false, threads);
            test_head_matvec(type, 512, 33, 3, 5, false, threads);
            test_head_matvec(type, 128, 512, 1, 16, true, threads);
            test_head_matvec(type, 33, 256, 3, 5, true, threads);
            if (ggml_blck_size(type) <= 32) {
                test_head_matvec(type, 128, 512, 8, 16, false, threads);
                test_head_matvec(type, 96, 7, 1, 3, false, threads);
            }
        }
    }
}

}  // namespace

int main(int argc, char ** argv) {
    filter = argc > 1 ? argv[1] : "";
    plm_backend();
    test_matvec();
    test_attention();
    printf("%d cases, %d failed\n", n_run, n_failed);
    return n_failed > 0 || n_run == 0 ? 1 : 0;
}
