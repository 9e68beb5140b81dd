// Function-preserving growth: residual blocks whose last scale is 0 add nothing to what passes by.
#pragma once

#include <cstdint>
#include <string>

#include "converter/torch/checkpoint.h"

namespace mpq::convert {

struct Growth {
  uint32_t stage = 3;       // "layer3"
  uint32_t blocks = 23;     // that the stage has afterwards
  float last_scale = 0.0F;  // of a new block's last norm; 0: the network's function is unchanged
};

// "STAGE:BLOCKS", e.g. "3:23".
Result<Growth> parse_growth(const std::string& text);

// Appends blocks of the stage's shape with He-normal weights from a fixed seed. The error names a
// stage that the checkpoint lacks or that has more blocks already.
Checked grow(Checkpoint* checkpoint, const Growth& growth);

}  // namespace mpq::convert
