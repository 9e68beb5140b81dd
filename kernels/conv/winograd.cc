#include "kernels/conv/winograd.h"

#include <cstring>

namespace mpq::kernels {
namespace {

constexpr int32_t kG[4][3] = {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}};
constexpr uint32_t kMaxChannels = 1U << 17;  // 4 * 15 * 8 * 9 * C must stay below 2^31

}  // namespace

bool winograd_fits(const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && s.r == 3 && s.s == 3 && s.stride_h == 1 && s.stride_w == 1 &&
         s.dilation_h == 1 && s.dilation_w == 1 && cb > 0 && cb % 4 == 0 && cb <= 64 &&
         s.c <= kMaxChannels;
}

size_t winograd_bytes(const ConvShape& s, uint32_t cb) {
  return panel_count(s) * winograd_panel_bytes(s, cb);
}

void pack_winograd(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  auto* bytes = static_cast<uint8_t*>(packed);
  const size_t stride = winograd_panel_bytes(s, cb);
  std::memset(packed, 0, winograd_bytes(s, cb));
  pack_groups(s, {.taps = 9, .block = 1}, 4, canonical, bytes + kWinogradStartBytes, stride);
  for (uint32_t o = 0; o < s.o; ++o) {
    // The sum over channels of U is the transform of the sum of g.
    int32_t sum[9] = {};
    for (uint32_t c = 0; c < s.c; ++c, canonical += 9)
      for (uint32_t tap = 0; tap < 9; ++tap) sum[tap] += canonical[tap];
    for (uint32_t i = 0; i < 4; ++i)
      for (uint32_t j = 0; j < 4; ++j) {
        int32_t start = 0;
        for (uint32_t tap = 0; tap < 9; ++tap)
          start -= kWinogradOffset * sum[tap] * kG[i][tap / 3] * kG[j][tap % 3];
        std::memcpy(bytes + o / 64 * stride + ((i * 4 + j) * 64 + o % 64) * sizeof start, &start,
                    sizeof start);
      }
  }
}

}  // namespace mpq::kernels
