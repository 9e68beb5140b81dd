// Requantisation in 16-bit lanes: a cheaper form of requant.h, for channels where it is proved
// equal.
//
//   code(s) = clamp((((s * multiplier) >> 16) * rounding + 2^14) >> 15, 0, hi)
//
// for a sum s that was saturated to 16 bits, with rounding = 2^(15 - n), 1 <= n <= 14. Floors of
// floors are one floor, so this is exactly s * multiplier / 2^(16 + n), rounded half up, although
// the products' low halves are never made. With a multiplier above 0 the codes of both forms are
// staircases of s with at most `hi` steps, so they are equal everywhere if each step of one is a
// step of the other: two sums to try a step. (Source: numerics section of kernels/README.md.)
#pragma once

#include <cstdint>

namespace mpq::kernels {

struct FixedPoint {
  int16_t multiplier = 0;
  int16_t rounding = 0;  // 0: no fixed-point form is equal
};

// The fixed-point form of clamp(round_half_even(fma(s, multiplier, bias)), 0, hi) for every 64-bit
// s, saturated to 16 bits first, or none. 1 <= hi <= 255. Needs round-to-nearest-even.
FixedPoint fixed_point(float multiplier, float bias, int32_t hi);

// What the lanes compute.
int32_t fixed_code(int64_t sum, FixedPoint, int32_t hi);

// Whether a residual in the accumulator domain, of codes r >= 0 of `bits` bits and zero point 0, is
// what 16-bit lanes make of it:
//   round(r * factor / 2^shift) = ((r << (15 - bits)) * (factor << (bits - shift)) + 2^14) >> 15
bool is_fixed_residual(int32_t factor, int32_t shift, int32_t bits);

}  // namespace mpq::kernels
