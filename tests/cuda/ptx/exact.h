// Binary32 arithmetic by its definition: the exact result, then the float that the mode names.
// Shares nothing with the machine, which leaves rounding to the processor.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace mpq::test {

enum class Mode : uint8_t { kNearest, kZero, kDown, kUp };

inline float as_float(uint64_t bits) {
  const auto low = static_cast<uint32_t>(bits);
  float f;
  std::memcpy(&f, &low, 4);
  return f;
}
inline uint32_t bits_of(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return f == f ? bits : 0x7fffffff;
}

// sum + error, |error| <= half a unit in the last place of sum: as a float. sum is finite and far
// from double's limits.
inline float rounded(double sum, double error, Mode mode) {
  if (sum == 0) return static_cast<float>(sum);  // then error is 0 too
  if (std::abs(sum) >= 0x1p128) {                // beyond every float
    const bool to_infinity =
        mode == Mode::kNearest || (mode != Mode::kZero && (mode == Mode::kUp) == (sum > 0));
    return std::copysign(to_infinity ? INFINITY : FLT_MAX, static_cast<float>(sum));
  }
  // Compares sum + error with x, a double near sum.
  const auto compare = [&](double x) {
    const double d = sum - x;  // exact; if not 0, then larger than the error
    return d != 0 ? (d > 0 ? 1 : -1) : error > 0 ? 1 : error < 0 ? -1 : 0;
  };
  const auto wide = [](float f) {
    return std::isinf(f) ? std::copysign(0x1p128, double{f}) : double{f};
  };
  float below = std::abs(sum) < double{FLT_MAX} ? static_cast<float>(sum)
                                                : std::copysign(FLT_MAX, static_cast<float>(sum));
  while (compare(wide(below)) < 0 && !std::isinf(below)) below = std::nextafterf(below, -INFINITY);
  float above = below;
  while (compare(wide(above)) > 0 && !std::isinf(above)) above = std::nextafterf(above, INFINITY);
  if (compare(wide(below)) == 0) above = below;
  if (below == above) return below;
  switch (mode) {
    case Mode::kZero:
      return sum > 0 ? below : above;
    case Mode::kDown:
      return below;
    case Mode::kUp:
      return above;
    case Mode::kNearest:
      break;
  }
  const int side = compare(wide(below) + (wide(above) - wide(below)) / 2);
  if (side != 0) return side > 0 ? above : below;
  return (bits_of(below) & 1) == 0 ? below : above;
}

inline float exact_fma(float a, float b, float c, Mode mode) {
  const double p = double{a} * double{b};  // exact
  if (!std::isfinite(p) || !std::isfinite(c)) return static_cast<float>(p + double{c});
  const double sum = p + double{c};
  const double c_part = sum - p, error = (p - (sum - c_part)) + (double{c} - c_part);  // Knuth
  if (sum == 0) {  // a zero of exact terms: its sign is the ISA's, IEEE 754 6.3
    const bool both_negative = std::signbit(p) && std::signbit(c);
    const bool differ = std::signbit(p) != std::signbit(c);
    return both_negative || (differ && mode == Mode::kDown) ? -0.0F : 0.0F;
  }
  return rounded(sum, error, mode);
}

// A quotient or root, in 64 bits of precision: no such value is nearer to a float or to the middle
// of two than 2^-50 of itself without being it.
inline float exact_of(long double v, Mode mode) {
  if (!(std::fabs(v) <= LDBL_MAX) || v == 0) return static_cast<float>(v);
  const auto high = static_cast<double>(v);
  return rounded(high, static_cast<double>(v - high), mode);
}

}  // namespace mpq::test
