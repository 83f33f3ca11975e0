#pragma once

// Blocks of quantized weights, and what reading them takes on any machine.

#define GGML_COMMON_DECL_C
#include "ggml-common.h"

#include <cstdint>
#include <cstring>

namespace plm {

// scales and mins of a Q4_K super-block, 8 bytes each, unpacked from 12
inline void unpack_scales_q4_K(const uint8_t * packed, uint8_t scales[8], uint8_t mins[8]) {
    uint32_t s[3];
    memcpy(s, packed, sizeof(s));
    const uint32_t lo[4] = { s[0] & 0x3f3f3f3f, (s[2] & 0x0f0f0f0f) | ((s[0] >> 6) & 0x03030303) << 4,
                             s[1] & 0x3f3f3f3f, ((s[2] >> 4) & 0x0f0f0f0f) | ((s[1] >> 6) & 0x03030303) << 4 };
    memcpy(scales, lo, 8);
    memcpy(mins, lo + 2, 8);
}

}  // namespace plm
