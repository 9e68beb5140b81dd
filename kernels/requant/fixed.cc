#include "kernels/requant/fixed.h"

#include <cmath>

#include "kernels/requant/requant.h"

namespace mpq::kernels {
namespace {

constexpr int64_t clamp(int64_t value, int64_t lo, int64_t hi) {
  return value < lo ? lo : value > hi ? hi : value;
}

// The least sum of which the lanes make at least `code` over the offset.
int64_t step_of(int64_t code, int64_t multiplier, int shift) {
  const int64_t product = (2 * code - 1) * (int64_t{1} << (shift - 1));
  return product > 0 ? (product + multiplier - 1) / multiplier : -(-product / multiplier);
}

bool equal_everywhere(int32_t fixed, int shift, float multiplier, float bias,
                      const FixedCodes& codes) {
  const auto code = [&](int64_t sum) {
    return round_clamp(std::fmaf(static_cast<float>(sum), multiplier, bias), codes.lo, codes.hi);
  };
  for (int32_t k = codes.lo + 1; k <= codes.hi; ++k) {
    const int64_t step = step_of(k - codes.offset, fixed, shift);
    if (step > INT16_MAX || step <= INT16_MIN || code(step) < k || code(step - 1) >= k)
      return false;
  }
  return true;
}

}  // namespace

FixedPoint fixed_point(float multiplier, float bias, const FixedCodes& codes) {
  if (multiplier == 0.0F &&
      round_clamp(bias, codes.lo, codes.hi) == clamp(codes.offset, codes.lo, codes.hi))
    return {0, 1};
  if (!(multiplier > 0.0F)) return {};
  for (int n = 14; n >= 1; --n) {
    const double scaled = std::ldexp(double{multiplier}, 16 + n);
    if (scaled > INT16_MAX) continue;
    const auto fixed = static_cast<int32_t>(std::nearbyint(scaled));
    if (fixed < 1 || !equal_everywhere(fixed, 16 + n, multiplier, bias, codes)) return {};
    return {static_cast<int16_t>(fixed), static_cast<int16_t>(1 << (15 - n))};
  }
  return {};
}

int32_t fixed_code(int64_t sum, FixedPoint f, const FixedCodes& codes) {
  const int64_t lane = clamp(sum, INT16_MIN, INT16_MAX);
  const int64_t high = (lane * f.multiplier) >> 16;
  return static_cast<int32_t>(
      clamp(codes.offset + ((high * f.rounding + (1 << 14)) >> 15), codes.lo, codes.hi));
}

bool is_fixed_residual(int32_t factor, const FixedResidual& r) {
  const int32_t bits = magnitude_bits(r);
  return r.shift >= 0 && r.shift <= bits && factor >= 0 &&
         factor <= INT16_MAX >> (bits - r.shift) &&
         (r.zero == 0 || (factor & ((1 << r.shift) - 1)) == 0);
}

bool may_add_residual(int64_t max_sum, const FixedResidual& r, const FixedCodes& codes) {
  return (r.zero == 0 && codes.offset <= codes.lo) || max_sum <= INT16_MAX;
}

void fill_fixed_panel(const FixedPoint points[64], const int32_t factors[64], FixedPanel* panel) {
  panel->others = 0;
  for (uint32_t v = 0; v < 4; ++v) {
    bool all = true;
    for (uint32_t i = 0; i < 16; ++i) all = all && points[16 * v + i].rounding != 0;
    if (!all) panel->others |= uint64_t{1} << v;
    for (uint32_t i = 0; i < 16; ++i) {
      const uint32_t channel = 16 * v + i, at = v / 2 * 32 + i / 4 * 8 + v % 2 * 4 + i % 4;
      panel->multiplier[at] = all ? points[channel].multiplier : int16_t{4096};
      panel->rounding[at] = all ? points[channel].rounding : int16_t{8192};
      panel->factor[at] = all ? static_cast<int16_t>(factors[channel]) : int16_t{0};
    }
  }
}

}  // namespace mpq::kernels
