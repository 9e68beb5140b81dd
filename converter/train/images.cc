#include "converter/train/images.h"

#include <algorithm>

#include "converter/parallel.h"
#include "converter/random.h"

namespace mpq::convert::train {
namespace {

constexpr uint64_t kStride = 0xD1B54A32D192ED03ULL;  // odd: streams of counters lie apart

}  // namespace

void take_images(const ImageSet& set, std::span<const size_t> indices, const Augmentation& how,
                 uint64_t seed, std::span<float> batch) {
  constexpr size_t kChannels = ImageSet::kChannels;
  const size_t h = set.height, w = set.width, size = set.image_bytes();
  std::array<std::array<float, 256>, kChannels> table;
  for (size_t c = 0; c < kChannels; ++c)
    for (size_t v = 0; v < 256; ++v)
      table[c][v] = (static_cast<float>(v) / 255.0F - set.mean[c]) / set.stddev[c];
  parallel_for(indices.size(), 16, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      uint64_t state = seed + kStride * (i + 1);
      const uint64_t span = 2 * uint64_t{how.pad} + 1;
      const size_t down = next_random(&state) % span, right = next_random(&state) % span;
      const bool mirrored = how.flip && next_random(&state) % 2 == 1;
      const uint8_t* const image = set.pixels.data() + indices[i] * size;
      float* to = batch.data() + i * size;
      for (size_t y = 0; y < h; ++y)
        for (size_t x = 0; x < w; ++x, to += kChannels) {
          const size_t from_y = y + down - how.pad,
                       from_x = (mirrored ? w - 1 - x : x) + right - how.pad;
          const bool inside = from_y < h && from_x < w;  // wrapped around when in the padding
          for (size_t c = 0; c < kChannels; ++c)
            to[c] = inside ? table[c][image[(from_y * w + from_x) * kChannels + c]] : 0.0F;
        }
    }
  });
}

size_t take_in_order(const ImageSet& set, size_t first, uint32_t batch, std::span<float> pixels) {
  const size_t count = std::min<size_t>(batch, set.count() - first);
  std::vector<size_t> indices;
  for (size_t i = 0; i < batch; ++i) indices.push_back(first + std::min(i, count - 1));
  take_images(set, indices, {}, 0, pixels);
  return count;
}

std::vector<size_t> shuffled(size_t count, uint64_t seed, uint64_t epoch) {
  return choose(count, count, seed + kStride * (epoch + 1));
}

}  // namespace mpq::convert::train
