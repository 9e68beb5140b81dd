#include "kernels/conv/quarters.h"

#include <cstring>

#include "kernels/conv/tiling.h"

namespace mpq::kernels {

size_t quarters_bytes(const ConvShape& s, uint32_t cb) { return panels_bytes(s, cb, 8); }

void pack_quarters(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  const uint32_t taps = s.r * s.s;
  const PanelOrder order = {.taps = taps, .block = cb / 4};
  auto* to = static_cast<int8_t*>(packed);
  std::memset(packed, 0, quarters_bytes(s, cb));
  for (uint32_t o = 0; o < s.o; o += kQuarterChannels, to += panel_groups(s, cb) * kQuarterGroup) {
    const uint32_t rows = min(kQuarterChannels, s.o - o);
    for (uint32_t quad = 0; quad * 4 < s.c; ++quad) {
      const uint32_t channels = min(4, s.c - quad * 4);
      for (uint32_t tap = 0; tap < taps; ++tap) {
        int8_t* group = to + order.group(quad, tap) * kQuarterGroup;
        const int8_t* from = canonical + (size_t{o} * s.c + quad * 4) * taps + tap;
        for (uint32_t row = 0; row < rows; ++row, from += size_t{s.c} * taps)
          for (uint32_t i = 0; i < channels; ++i) group[row * 4 + i] = from[size_t{i} * taps];
      }
    }
  }
}

}  // namespace mpq::kernels
