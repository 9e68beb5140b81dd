#include "kernels/conv/thin.h"

#include <cstring>

#include "kernels/cpu.h"

namespace mpq::kernels {
namespace {

constexpr size_t kGroup = 4 * kPanelChannels;

}  // namespace

bool thin_fits(const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && cb == 4 && s.c < 4 && s.dilation_w == 1 && thin_row_groups(s) < s.s;
}

size_t thin_bytes(const ConvShape& s, uint32_t) { return panel_count(s) * thin_groups(s) * kGroup; }

void pack_thin(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  std::memset(packed, 0, thin_bytes(s, cb));
  for (uint32_t o = 0; o < s.o; ++o) {
    auto* panel = static_cast<int8_t*>(packed) + o / kPanelChannels * thin_groups(s) * kGroup +
                  size_t{o % kPanelChannels} * 4;
    for (uint32_t c = 0; c < s.c; ++c)
      for (uint32_t r = 0; r < s.r; ++r)
        for (uint32_t q = 0; q < s.s; ++q) {
          const uint32_t k = q * s.c + c;
          panel[(r * thin_row_groups(s) + k / 4) * kGroup + k % 4] = *canonical++;
        }
  }
}

size_t thin_words_bytes(const ConvShape& s, uint32_t) {
  return panel_count(s) * 4 * s.r * thin_row_pairs(s) * kQuarterGroup;
}

void pack_thin_words(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  std::memset(packed, 0, thin_words_bytes(s, cb));
  const size_t pairs = thin_row_pairs(s);
  for (uint32_t o = 0; o < s.o; ++o) {
    auto* quarter =
        static_cast<int16_t*>(packed) +
        (o / kQuarterChannels * s.r * pairs * kQuarterChannels + o % kQuarterChannels) * 2;
    for (uint32_t c = 0; c < s.c; ++c)
      for (uint32_t r = 0; r < s.r; ++r)
        for (uint32_t q = 0; q < s.s; ++q) {
          const uint32_t k = q * s.c + c;
          quarter[(r * pairs + k / 2) * 2 * kQuarterChannels + k % 2] = *canonical++;
        }
  }
}

float thin_cost(const ConvShape& s, uint32_t, CpuFamily) {
  return 0.05F + static_cast<float>(thin_row_groups(s)) / static_cast<float>(s.s);
}

}  // namespace mpq::kernels
