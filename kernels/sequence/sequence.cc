#include "kernels/sequence/sequence.h"

#include <cmath>
#include <cstring>

#include "kernels/math/lanes.h"

namespace mpq::kernels {
namespace {

void add_row(float* y, const float* row, uint32_t width) {
  for (uint32_t i = 0; i < width; ++i) y[i] += row[i];
}

float length(const float* y, uint32_t width) {
  float lane[16] = {};
  for (uint32_t i = 0; i < width; ++i) lane[i % 16] = std::fmaf(y[i], y[i], lane[i % 16]);
  return std::sqrt(fold_lanes(lane));
}

}  // namespace

void embed(const EmbeddingArgs& a, const WorkRange& range) {
  const size_t width = a.width;
  for (uint32_t sequence = range.begin; sequence < range.end; ++sequence) {
    const uint32_t start = a.starts[sequence];
    for (uint32_t token = start; token < a.starts[sequence + 1]; ++token) {
      float* y = a.y + token * width;
      const auto id = static_cast<size_t>(a.ids[token]);
      if (a.words != nullptr) {
        std::memcpy(y, a.words + id * width, width * sizeof(float));
      } else {
        const int8_t* codes = a.word_codes + id * width;
        for (size_t i = 0; i < width; ++i) y[i] = static_cast<float>(codes[i]) * a.word_scale[id];
      }
      add_row(y, a.positions + (size_t{a.position_offset} + token - start) * width, a.width);
      if (a.types != nullptr)
        add_row(y, a.type_rows + static_cast<size_t>(a.types[token]) * width, a.width);
    }
  }
}

void pool_sequences(const SequencePoolArgs& a, const WorkRange& range) {
  const size_t width = a.width;
  for (uint32_t sequence = range.begin; sequence < range.end; ++sequence) {
    const uint32_t start = a.starts[sequence], count = a.starts[sequence + 1] - start;
    float* y = a.y + sequence * width;
    if (a.mean) {
      std::memset(y, 0, width * sizeof(float));
      for (uint32_t i = 0; i < count; ++i) add_row(y, a.x + (size_t{start} + i) * width, a.width);
      for (size_t i = 0; i < width; ++i) y[i] /= static_cast<float>(count);
    } else {
      std::memcpy(y, a.x + start * width, width * sizeof(float));
    }
    if (!a.normalise) continue;
    const float size = length(y, a.width);
    const float divisor = size > 1e-12F ? size : 1e-12F;
    for (size_t i = 0; i < width; ++i) y[i] /= divisor;
  }
}

}  // namespace mpq::kernels
