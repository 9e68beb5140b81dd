#include "kernels/conv/winograd_pairs.h"

#include <cstring>

#include "kernels/conv/tiling.h"

namespace mpq::kernels {
namespace {

constexpr int32_t kG[4][3] = {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}};
constexpr int32_t kA[2][4] = {{1, 1, 1, 0}, {0, 1, -1, 1}};

// U of 3 x 3 weights.
void transform(const int8_t* w, int32_t u[16]) {
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) {
      int32_t sum = 0;
      for (int tap = 0; tap < 9; ++tap) sum += kG[i][tap / 3] * kG[j][tap % 3] * w[tap];
      u[i * 4 + j] = sum;
    }
}

}  // namespace

bool winograd_pairs_fit(const ConvShape& s, uint32_t cb) {
  return winograd_fits(kWinogradPairs, s, cb) && cb == 64 && s.c % cb == 0;
}

size_t winograd_pairs_bytes(const ConvShape& s, uint32_t) {
  return panel_count(s) * winograd_pairs_panel_bytes(s);
}

void pack_winograd_pairs(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  auto* bytes = static_cast<uint8_t*>(packed);
  const size_t stride = winograd_pairs_panel_bytes(s);
  std::memset(packed, 0, winograd_pairs_bytes(s, cb));
  pack_groups(s, {.taps = 9, .block = 1}, kWinogradPairs.bits, canonical,
              bytes + kWinogradPairsHead, stride);
  for (uint32_t o = 0; o < s.o; ++o, canonical += size_t{s.c} * 9) {
    uint32_t terms[16] = {};  // wrap, as the accumulators do
    for (uint32_t c = 0; c < s.c; ++c) {
      const uint32_t group = c % 64 / 4;
      const bool first = group < kPairsOfBlock, second = !first && group < 2 * kPairsOfBlock;
      int32_t u[16], other[16];
      transform(canonical + size_t{c} * 9, u);
      if (first) transform(canonical + size_t{c + 4 * kPairsOfBlock} * 9, other);
      for (uint32_t i = 0; i < 16; ++i)
        terms[i] += static_cast<uint32_t>((second ? kSecondOffset : kWinogradPairs.offset) * u[i] +
                                          (first ? u[i] * other[i] : 0));
    }
    for (uint32_t output = 0; output < 4; ++output) {
      uint32_t start = 0;
      for (uint32_t i = 0; i < 16; ++i)
        start -= static_cast<uint32_t>(kA[output / 2][i / 4] * kA[output % 2][i % 4]) * terms[i];
      std::memcpy(bytes + o / 64 * stride + (output * 64 + o % 64) * sizeof start, &start,
                  sizeof start);
    }
  }
}

// Of a direct row's time, as in winograd.cc. Fitted to ResNet-50's layers, alone and inside the
// network, Zen 4.
float winograd_pairs_cost(const ConvShape& s, uint32_t, CpuFamily family) {
  if (family == CpuFamily::kIntel) return 1.5F;
  constexpr float kProducts = 0.3F, kTransforms = 10, kWeights = 12;
  const float pixels =
                  static_cast<float>(s.n) * static_cast<float>(s.oh) * static_cast<float>(s.ow),
              outputs = 4.0F * static_cast<float>(Tiling(s, 2, 1).total);
  return outputs / pixels * (kProducts + kTransforms / static_cast<float>(s.c)) + kWeights / pixels;
}

}  // namespace mpq::kernels
