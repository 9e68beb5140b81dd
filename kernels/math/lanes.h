// What families build from lanes_*.h, or share with what is built from them.
#pragma once

#include <cstdint>

namespace mpq::kernels {
namespace {

// The end of sum16: lane i of 16 has added elements i, i + 16, ... from +0; here lane l += lane l +
// 8 for l < 8, then the same with 4, with 2 and with 1.
static inline float fold_lanes(float lane[16]) {
  for (uint32_t half = 8; half > 0; half /= 2)
    for (uint32_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

// round_clamp of requant/requant.h, a lane a byte. lo and hi are codes.
template <typename L>
static inline void store_clamped(uint8_t* p, typename L::F v, float lo, float hi) {
  L::store_codes(p, L::min(L::max(v, L::set(lo)), L::set(hi)));
}

}  // namespace
}  // namespace mpq::kernels
