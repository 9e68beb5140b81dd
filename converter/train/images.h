// Labelled images in memory, and batches of them: shuffled, cropped and flipped by counters alone,
// so that any step of a run can be computed without those before it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "format/status.h"

namespace mpq::convert::train {

struct ImageSet {
  uint32_t height = 0, width = 0;
  static constexpr uint32_t kChannels = 3;
  std::vector<uint8_t> pixels;  // RGB, channels last, one image after another
  std::vector<int32_t> labels;  // a class an image; empty: not labelled
  std::array<float, 3> mean = {0, 0, 0}, stddev = {1, 1, 1};  // of pixel / 255

  size_t image_bytes() const { return size_t{height} * width * kChannels; }
  size_t count() const { return image_bytes() == 0 ? 0 : pixels.size() / image_bytes(); }
};

struct Augmentation {
  uint32_t pad = 0;   // pixels of 0 on each side, then a random crop of the old size
  bool flip = false;  // left and right, every other time
};

// (pixel / 255 - mean) / stddev of the chosen images [n][H][W][C]. Image i of the batch is
// augmented by random numbers that depend on the seed and i only. Padding is 0 behind the
// normalisation.
void take_images(const ImageSet& set, std::span<const size_t> indices, const Augmentation& how,
                 uint64_t seed, std::span<float> batch);

// The images from `first` on, as they are; the last one fills up the batch. Their number without
// what fills it.
size_t take_in_order(const ImageSet& set, size_t first, uint32_t batch, std::span<float> pixels);

// The order in which a pass over `count` images takes them.
std::vector<size_t> shuffled(size_t count, uint64_t seed, uint64_t epoch);

}  // namespace mpq::convert::train
