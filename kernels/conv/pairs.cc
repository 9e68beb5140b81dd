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
  const uint32_t taps = s.r * s.s;
  const int32_t half = pairs_half(bits);
  const size_t stride = pairs_bytes(s, cb, bits) / panel_count(s);
  auto* bytes = static_cast<uint8_t*>(packed);
  for (uint32_t o = 0; o < panel_count(s) * kPanelChannels; ++o) {
    uint32_t sum = 0;  // wraps, as the accumulators do
    for (uint32_t c = 0; c < s.c; c += 8)
      for (uint32_t i = c; i < c + 4; ++i)
        for (uint32_t tap = 0; tap < taps; ++tap) {
          // Channels that do not exist have weights of 0.
          const int8_t* w = canonical + (size_t{o} * s.c + i) * taps + tap;
          const int32_t w0 = o < s.o ? w[0] : 0, w1 = o < s.o ? w[size_t{4} * taps] : 0;
          sum -= static_cast<uint32_t>((w1 + half) * (w0 + half - 128));
        }
    std::memcpy(bytes + o / kPanelChannels * stride + o % kPanelChannels * sizeof sum, &sum,
                sizeof sum);
  }
  pack_groups(s, {.taps = taps, .block = cb / 4}, bits, canonical, bytes + kPairsHeadBytes, stride);
}

float pairs_cost(const ConvShape& s, CpuFamily family) {
  if (family == CpuFamily::kIntel) return 1.5F;
  // Products of pixels cost as much as some channels do.
  return 0.76F * (1.0F + 4.0F / static_cast<float>(s.o));
}

}  // namespace mpq::kernels
