// Three classes of 8 x 8 pictures: where the bright half is, under noise.
#pragma once

#include <random>

#include "converter/train/images.h"

namespace mpq::convert::train {

inline ImageSet striped_images(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  ImageSet set;
  set.height = set.width = 8;
  set.mean = {0.5F, 0.5F, 0.5F};
  set.stddev = {0.25F, 0.25F, 0.25F};
  for (size_t i = 0; i < count; ++i) {
    const auto label = static_cast<int32_t>(i % 3);
    set.labels.push_back(label);
    for (uint32_t p = 0; p < 64; ++p) {
      const bool bright = label == 0 ? p < 32 : label == 1 ? p % 8 < 4 : (p / 8 + p) % 2 == 0;
      for (int c = 0; c < 3; ++c)
        set.pixels.push_back(static_cast<uint8_t>((bright ? 150 : 60) + rng() % 60));
    }
  }
  return set;
}

}  // namespace mpq::convert::train
