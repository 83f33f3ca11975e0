#pragma once

// The CPU backend under test: the one that is linked in or, in a build of loadable backends, the best for this
// CPU, or the module that PLM_TEST_BACKEND names. One test program thus serves every instruction set.

#include "ggml-backend.h"
#include "ggml.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

struct plm_test_backend {
    ggml_backend_t               backend;
    ggml_backend_reg_t           reg;
    ggml_backend_set_n_threads_t set_n_threads;
    const ggml_backend_feature * features;

    plm_test_backend() {
        const char * path = getenv("PLM_TEST_BACKEND");
        if (path) {
            reg = ggml_backend_load(path);
        } else {
            ggml_backend_load_all();
            reg = ggml_backend_reg_by_name("CPU");
        }
        if (!reg) {
            printf("skipped: %s is not for this CPU\n", path ? path : "no backend");
            exit(SKIPPED);
        }
        backend       = ggml_backend_dev_init(ggml_backend_reg_dev_get(reg, 0), nullptr);
        set_n_threads = (ggml_backend_set_n_threads_t) address("ggml_backend_set_n_threads");
        features      = ((ggml_backend_get_features_t) address("ggml_backend_get_features"))(reg);
        for (const ggml_backend_feature * f = features; f->name; f++) {
            printf("%s=%s ", f->name, f->value);
        }
        printf("\n");
    }

    ~plm_test_backend() { ggml_backend_free(backend); }

    static constexpr int SKIPPED = 77;

    void * address(const char * name) const { return ggml_backend_reg_get_proc_address(reg, name); }

    bool has(const char * feature) const {
        for (const ggml_backend_feature * f = features; f->name; f++) {
            if (strcmp(f->name, feature) == 0) {
                return strcmp(f->value, "1") == 0;
            }
        }
        return false;
    }

    void compute(ggml_cgraph * graph, int n_threads) const {
        set_n_threads(backend, n_threads);
        ggml_backend_graph_compute(backend, graph);
    }
};

// built at the first use, after main() has begun
inline plm_test_backend & plm_backend() {
    static plm_test_backend backend;
    return backend;
}
