// Proof that a float requantisation equals an integer one. Both are monotone staircases of the
// accumulator, so they agree everywhere between two accumulators when they agree at each threshold
// of the integer rule, at the accumulator before it, and at both ends.
#pragma once

#include <cstdint>

namespace mpq::convert::nvidia {

// code = clamp(sign(acc) * ((|acc| * factor + half) >> shift), lo, hi); half away from zero.
struct IntegerRule {
  int64_t factor = 0;
  int shift = 0;
  int64_t lo = 0, hi = 0;
  int64_t operator()(int64_t acc) const;
};

// code = clamp(round_half_even(fma(float(acc), multiplier, bias)), lo, hi) - zero_point, the
// requantisation of the model file (format/model.h).
struct FloatRule {
  float multiplier = 0.0F, bias = 0.0F;
  int32_t lo = 0, hi = 255, zero_point = 0;
  int64_t operator()(int64_t acc) const;
};

struct AccRange {
  int64_t min = 0, max = 0;
};

// Thresholds checked, or -1 when the two rules differ for some accumulator of the range.
int compare_staircases(const IntegerRule& integer, const FloatRule& real, AccRange range);

}  // namespace mpq::convert::nvidia
