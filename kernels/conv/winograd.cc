#include "kernels/conv/winograd.h"

#include <cstring>

#include "kernels/conv/tiling.h"

namespace mpq::kernels {
namespace {

constexpr int32_t kG2[][3] = {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}};
constexpr int32_t kG3[][3] = {{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {0, 0, 1}};

}  // namespace

bool winograd_fits(const WinogradForm& form, const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && s.r == 3 && s.s == 3 && s.stride_h == 1 && s.stride_w == 1 &&
         s.dilation_h == 1 && s.dilation_w == 1 && cb > 0 && cb % 4 == 0 && cb <= 64 &&
         s.c <= form.max_channels;
}

size_t winograd_bytes(const WinogradForm& form, const ConvShape& s, uint32_t cb) {
  return panel_count(s) * winograd_panel_bytes(form, s, cb);
}

void pack_winograd(const WinogradForm& form, const ConvShape& s, uint32_t cb,
                   const int8_t* canonical, void* packed) {
  auto* bytes = static_cast<uint8_t*>(packed);
  const size_t stride = winograd_panel_bytes(form, s, cb);
  const auto* g = form.m == 2 ? kG2 : kG3;
  std::memset(packed, 0, winograd_bytes(form, s, cb));
  pack_groups(s, {.taps = 9, .block = 1}, form.bits, canonical, bytes + form.start_bytes(), stride);
  for (uint32_t o = 0; o < s.o; ++o) {
    // The sum over channels of U is the transform of the sum of g.
    int32_t sum[9] = {};
    for (uint32_t c = 0; c < s.c; ++c, canonical += 9)
      for (uint32_t tap = 0; tap < 9; ++tap) sum[tap] += canonical[tap];
    for (uint32_t i = 0; i < form.side(); ++i)
      for (uint32_t j = 0; j < form.side(); ++j) {
        uint32_t start = 0;  // wraps, as the accumulators do
        for (uint32_t tap = 0; tap < 9; ++tap)
          start -= static_cast<uint32_t>(form.offset * g[i][tap / 3] * g[j][tap % 3]) *
                   static_cast<uint32_t>(sum[tap]);
        std::memcpy(bytes + o / 64 * stride + ((i * form.side() + j) * 64 + o % 64) * sizeof start,
                    &start, sizeof start);
      }
  }
}

// Of a direct row's time: products, more of them where tiles stick out of the image, with a share
// for transforms of codes and sums; transformed weights. Fitted to ResNet-50's layers, alone and
// inside the network, 2.6 GHz Xeon.
float winograd_cost(const WinogradForm& form, const ConvShape& s) {
  constexpr float kWeights = 18;
  const auto m2 = static_cast<float>(form.m * form.m);
  const float products = static_cast<float>(form.positions()) / (9 * m2),
              transforms = form.m == 2 ? 14 : 16;
  const float pixels =
                  static_cast<float>(s.n) * static_cast<float>(s.oh) * static_cast<float>(s.ow),
              tiles = static_cast<float>(Tiling(s, form.m, 1).total);
  return tiles * m2 / pixels * (products + transforms / static_cast<float>(s.c)) +
         kWeights / pixels;
}

}  // namespace mpq::kernels
