// Requantisation in 16-bit lanes: a cheaper form of requant.h, for channels where it is proved
// equal.
//
//   code(s) = clamp(offset + ((((s * multiplier) >> 16) * rounding + 2^14) >> 15), lo, hi)
//
// for a sum s that was saturated to 16 bits, with rounding = 2^(15 - n), 1 <= n <= 14. Floors of
// floors are one floor, so this is exactly s * multiplier / 2^(16 + n), rounded half up, although
// the products' low halves are never made. With a multiplier above 0 the codes of both forms are
// staircases of s with at most `hi - lo` steps, so they are equal everywhere if each step of one is
// a step of the other: two sums to try a step. (Source: numerics section of kernels/README.md.)
//
// A residual in the accumulator domain is a product of its own, rounded half up:
//
//   residual(r) = (((r - zero) << (15 - b)) * (factor << (b - shift)) + 2^14) >> 15
//
// where r - zero has b bits and perhaps a sign. It is added to s with saturation, which is right if
// it never pulls a saturated s back: where it is not negative and the codes of negative sums are
// lo, or where s is known to fit 16 bits.
#pragma once

#include <cstdint>

namespace mpq::kernels {

struct FixedPoint {
  int16_t multiplier = 0;
  int16_t rounding = 0;  // 0: no fixed-point form is equal
};

// Of the codes of all channels: 0 <= lo < hi <= 255, 0 <= offset <= 255.
struct FixedCodes {
  int32_t offset = 0, lo = 0, hi = 255;
};

// The fixed-point form of clamp(round_half_even(fma(s, multiplier, bias)), lo, hi) for every 64-bit
// s, saturated to 16 bits first, or none. Needs round-to-nearest-even.
FixedPoint fixed_point(float multiplier, float bias, const FixedCodes&);

// What the lanes compute.
int32_t fixed_code(int64_t sum, FixedPoint, const FixedCodes&);

// Residual codes of `bits` bits less a zero point of 0, or of 2^(bits - 1): then they have a sign.
struct FixedResidual {
  int32_t shift = 0, bits = 8, zero = 0;
};
// b above; below 0: no such residual.
constexpr int32_t magnitude_bits(const FixedResidual& r) {
  return r.zero == 0 ? r.bits : r.zero == 1 << (r.bits - 1) ? r.bits - 1 : -1;
}

// Whether residual(r) is the definition's. Below 0 the definition rounds half down, so halves must
// not occur.
bool is_fixed_residual(int32_t factor, const FixedResidual&);

inline int32_t lane_factor(int32_t factor, const FixedResidual& r) {
  return factor << (magnitude_bits(r) - r.shift);
}

// Whether it may be added to saturated sums, of at most max_sum in magnitude before saturation.
bool may_add_residual(int64_t max_sum, const FixedResidual&, const FixedCodes&);

// The constants of 64 channels as vectors of 16-bit lanes want them: in the order in which packing
// four vectors of 16 sums leaves them, which is 128 bits of each of two in turn. A vector with a
// channel that has no such form is requantised by the definition and enters as 64 times its codes
// less the offset, of which these constants make them.
struct alignas(64) FixedPanel {
  int16_t multiplier[64], rounding[64], factor[64];
  uint64_t others;  // such vectors: a bit for each of 4
};
// lane_factor() of each residual, or 0.
void fill_fixed_panel(const FixedPoint points[64], const int32_t factors[64], FixedPanel*);

}  // namespace mpq::kernels
