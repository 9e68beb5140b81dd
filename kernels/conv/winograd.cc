#include "kernels/conv/winograd.h"

#include <cstring>

namespace mpq::kernels {
namespace {

constexpr int32_t kG[4][3] = {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}};
constexpr uint32_t kMaxChannels = 1U << 17;  // 4 * 15 * 8 * 9 * C must stay below 2^31

}  // namespace

bool winograd_fits(const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && s.r == 3 && s.s == 3 && s.stride_h == 1 && s.stride_w == 1 &&
         s.dilation_h == 1 && s.dilation_w == 1 && cb % 4 == 0 && cb <= 64 && s.c <= kMaxChannels;
}

size_t winograd_bytes(const ConvShape& s, uint32_t cb) {
  return panel_count(s) * winograd_panel_bytes(s, cb);
}

void pack_winograd(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  std::memset(packed, 0, winograd_bytes(s, cb));
  for (uint32_t o = 0; o < s.o; ++o) {
    uint8_t* panel = static_cast<uint8_t*>(packed) + o / 64 * winograd_panel_bytes(s, cb);
    int32_t start[16] = {};
    const uint32_t vector = o % 64 / 16;
    for (uint32_t c = 0; c < s.c; ++c, canonical += 9) {
      for (uint32_t tap = 0; tap < 9; ++tap) {
        uint8_t* line = panel + kWinogradStartBytes + (c / 4 * 9 + tap) * 128 + vector / 2 * 64;
        line[o % 16 * 4 + c % 4] |=
            static_cast<uint8_t>((static_cast<uint8_t>(canonical[tap]) & 15) << (vector % 2 * 4));
        for (uint32_t i = 0; i < 4; ++i)
          for (uint32_t j = 0; j < 4; ++j)
            start[i * 4 + j] -= kWinogradOffset * canonical[tap] * kG[i][tap / 3] * kG[j][tap % 3];
      }
    }
    for (uint32_t i = 0; i < 16; ++i)
      std::memcpy(panel + (i * 64 + o % 64) * sizeof(int32_t), &start[i], sizeof(int32_t));
  }
}

}  // namespace mpq::kernels
