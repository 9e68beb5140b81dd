#include "kernels/requant/fixed.h"

#include <cmath>

#include "kernels/requant/requant.h"

namespace mpq::kernels {
namespace {

constexpr int32_t kMaxLane = INT16_MAX;

constexpr int64_t clamp(int64_t value, int64_t lo, int64_t hi) {
  return value < lo ? lo : value > hi ? hi : value;
}

// Where code(s) first reaches `code`.
int64_t step_of(int64_t code, int64_t multiplier, int shift) {
  const int64_t product = (2 * code - 1) << (shift - 1);
  return (product + multiplier - 1) / multiplier;
}

bool equal_everywhere(int32_t fixed, int shift, float multiplier, float bias, int32_t hi) {
  const auto code = [&](int64_t sum) {
    return round_clamp(std::fmaf(static_cast<float>(sum), multiplier, bias), 0, hi);
  };
  for (int32_t k = 1; k <= hi; ++k) {
    const int64_t step = step_of(k, fixed, shift);
    if (step > kMaxLane || code(step) < k || code(step - 1) >= k) return false;
  }
  return true;
}

}  // namespace

FixedPoint fixed_point(float multiplier, float bias, int32_t hi) {
  if (multiplier == 0.0F && round_clamp(bias, 0, hi) == 0) return {0, 1};
  if (!(multiplier > 0.0F)) return {};
  for (int n = 14; n >= 1; --n) {
    const double scaled = std::ldexp(double{multiplier}, 16 + n);
    if (scaled > kMaxLane) continue;
    const auto fixed = static_cast<int32_t>(std::nearbyint(scaled));
    if (fixed < 1 || !equal_everywhere(fixed, 16 + n, multiplier, bias, hi)) return {};
    return {static_cast<int16_t>(fixed), static_cast<int16_t>(1 << (15 - n))};
  }
  return {};
}

int32_t fixed_code(int64_t sum, FixedPoint f, int32_t hi) {
  const int64_t lane = clamp(sum, INT16_MIN, INT16_MAX);
  const int64_t high = (lane * f.multiplier) >> 16;
  return static_cast<int32_t>(clamp((high * f.rounding + (1 << 14)) >> 15, 0, hi));
}

bool is_fixed_residual(int32_t factor, int32_t shift, int32_t bits) {
  return shift >= 0 && shift <= bits && factor >= 0 && factor <= kMaxLane >> (bits - shift);
}

}  // namespace mpq::kernels
