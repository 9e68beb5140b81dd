#include "converter/nvidia/staircase.h"

#include <algorithm>
#include <cmath>

namespace mpq::convert::nvidia {

int64_t IntegerRule::operator()(int64_t acc) const {
  const int64_t half = (int64_t{1} << shift) >> 1;
  const int64_t magnitude = ((acc < 0 ? -acc : acc) * factor + half) >> shift;
  return std::clamp(acc < 0 ? -magnitude : magnitude, lo, hi);
}

int64_t FloatRule::operator()(int64_t acc) const {
  const float v = std::fmaf(static_cast<float>(static_cast<int32_t>(acc)), multiplier, bias);
  const float clamped = std::clamp(v, static_cast<float>(lo), static_cast<float>(hi));
  return static_cast<int64_t>(std::nearbyintf(clamped)) - zero_point;
}

int compare_staircases(const IntegerRule& integer, const FloatRule& real, AccRange range) {
  const auto agree = [&](int64_t acc) { return integer(acc) == real(acc); };
  if (!agree(range.min) || !agree(range.max)) return -1;
  int checked = 0;
  int64_t from = range.min;
  for (int64_t code = integer(range.min) + 1; code <= integer(range.max); ++code) {
    // The first accumulator whose code is at least `code`; thresholds ascend.
    int64_t low = from, high = range.max;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (integer(middle) >= code)
        high = middle;
      else
        low = middle + 1;
    }
    if (!agree(low) || !agree(low - 1)) return -1;
    from = low;
    ++checked;
  }
  return checked;
}

}  // namespace mpq::convert::nvidia
