// Learning rates over a run.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace mpq::convert::train {

enum class Decay : uint8_t { kCosine, kLinear, kConstant };

// Rises linearly over the warm-up, then falls to `last` of the rate at the end.
struct Schedule {
  float rate = 0.01F;
  Decay decay = Decay::kCosine;
  double warm_up = 0.0;  // share of the steps
  float last = 0.0F;     // share of the rate

  // Of step 0 .. total - 1.
  float at(uint64_t step, uint64_t total) const {
    const double begun = static_cast<double>(step) + 1.0, all = static_cast<double>(total);
    const double warm = warm_up * all;
    if (begun < warm) return static_cast<float>(rate * begun / warm);
    const double past = std::clamp((begun - 1.0 - warm) / std::max(all - warm, 1.0), 0.0, 1.0);
    double share = 1.0;
    if (decay == Decay::kCosine) share = 0.5 * (1.0 + std::cos(std::numbers::pi * past));
    if (decay == Decay::kLinear) share = 1.0 - past;
    return static_cast<float>(rate * (last + (1.0 - last) * std::max(share, 0.0)));
  }
};

}  // namespace mpq::convert::train
