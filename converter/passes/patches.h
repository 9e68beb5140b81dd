// A fixed sample of the patches that a Conv or Linear multiplies with its weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "converter/graph.h"

namespace mpq::convert {

// Where patches are taken from: at most `limit` output pixels, equally many of each image.
struct PatchSample {
  const Conv* conv = nullptr;  // null: Linear, whose patch is the row
  Shape input, weights, output;
  size_t images = 0;
  size_t limit = 0;
  uint64_t seed = 0;
};

size_t patch_count(const PatchSample& sample);

// x [images][C][H][W] -> rows [patch_count][C / groups * R * S] of one group, columns as in the
// weights. The same pixels for every x and group.
std::vector<float> take_patches(const PatchSample& sample, std::span<const float> x,
                                uint32_t group);

}  // namespace mpq::convert
