#pragma once

// How many neurons fired, per weight tensor, over the life of the process. Off unless PLM_EDGE_PROFILE is set
// to something but 0; then the totals go to stderr at exit, one line a tensor:
//   plm-live <tensor> <activations that were not zero> <activations>

#include "ggml.h"

#include <cstdint>

namespace plm {

bool profile_is_on();
void profile_live(const ggml_tensor * weights, int64_t n_live, int64_t n_all);

}  // namespace plm
