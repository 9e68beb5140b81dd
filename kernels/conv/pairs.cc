#include "kernels/conv/pairs.h"

#include <cstring>

#include "kernels/cpu.h"

namespace mpq::kernels {

bool pairs_fit(const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && cb == 64 && s.c % cb == 0;
}

size_t pairs_bytes(const ConvShape& s, uint32_t cb, uint32_t bits) {
  return panel_count(s) * (kPairsHeadBytes + panel_groups(s, cb) * (256 / 8 * bits));
}

void pack_pairs(const ConvShape& s, uint32_t cb, uint32_t bits, const int8_t* canonical,
                void* packed) {
  const int32_t half = pairs_half(bits);
  const PanelOrder order = {.taps = s.r * s.s, .block = cb / 4};
  const size_t groups = panel_groups(s, cb), stride = pairs_bytes(s, cb, bits) / panel_count(s);
  auto* bytes = static_cast<uint8_t*>(packed);
  for (uint32_t panel = 0; panel < panel_count(s); ++panel) {
    const uint32_t first = panel * kPanelChannels,
                   channels = s.o - first < kPanelChannels ? s.o - first : kPanelChannels;
    uint32_t start[kPanelChannels] = {};  // wraps, as the accumulators do
    for (size_t g = 0; g + 1 < groups; g += kPairStep) {
      const auto weights = [&](size_t group) {  // of the panel's first channel
        return canonical + (size_t{first} * s.c + order.quad_of(group) * 4) * order.taps +
               order.tap_of(group);
      };
      const int8_t *at0 = weights(g), *at1 = weights(g + 1);
      for (uint32_t o = 0; o < channels; ++o)
        for (uint32_t i = 0; i < 4; ++i) {
          const size_t at = (size_t{o} * s.c + i) * order.taps;
          const int32_t w0 = at0[at], w1 = at1[at];
          start[o] -= static_cast<uint32_t>(half * w0 + (half - 128) * w1 + w0 * w1);
        }
    }
    std::memcpy(bytes + panel * stride, start, sizeof start);
  }
  pack_groups(s, order, bits, canonical, bytes + kPairsHeadBytes, stride);
}

float pairs_cost(const ConvShape& s, CpuFamily family) {
  if (family == CpuFamily::kIntel) return 1.34F;  // two ports for four instructions of three
  // Products of pixels cost as much as some channels do.
  return 0.71F * (1.0F + 6.0F / static_cast<float>(s.o));
}

}  // namespace mpq::kernels
