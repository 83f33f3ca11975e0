#pragma once

// The FFN of many tokens. Together they fire every neuron, so all of `down` is read, but each token still skips
// its own dead neurons: `down` is unpacked to floats tile by tile, and a token adds only the rows of the tile
// that its list names. Where most of a tile fired, for a model that is not sparse, say, the same tile goes through
// a dense product instead.

#include "sparse_source.h"

#include <cstddef>

struct ggml_compute_params;

namespace plm {

size_t prefill_work_size(const ffn_source & src, int n_tasks);

void prefill_tokens(const ggml_compute_params * params, const ffn_source & src, ggml_tensor * dst);

}  // namespace plm
