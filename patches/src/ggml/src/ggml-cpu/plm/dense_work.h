#pragma once

// The work buffer as the kernels want it: ggml promises no more than malloc's alignment.

#include "ggml-cpu-impl.h"

#include <cstddef>
#include <cstdint>

namespace plm {

constexpr size_t WORK_ALIGN = 64;

inline char * work_begin(const ggml_compute_params * params) {
    return (char *) GGML_PAD((uintptr_t) params->wdata, WORK_ALIGN);
}

// what to ask ggml for
inline size_t work_request(size_t size) {
    return size + WORK_ALIGN;
}

}  // namespace plm
