// exp of floats, as arithmetic that compilers put into vectors.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace mpq::convert::train {

// Within 2^-22 of itself; 0 below -87, what is not a number stays so.
inline float exp_of(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23: leaves no bits for the fraction
  constexpr float kLog2E = 1.44269504F, kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  const float bounded = x < -87.0F ? -87.0F : x > 88.0F ? 88.0F : x;
  const float shifted = bounded * kLog2E + kMagic;
  const float n = shifted - kMagic;
  const float r = (bounded - n * kLn2High) - n * kLn2Low;
  // The series of exp on |r| <= ln(2) / 2, its coefficients fitted (Cephes).
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float mantissa = p * r * r + r + 1.0F;
  const auto power = (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kMagic) + 127U)
                     << 23;
  return mantissa * std::bit_cast<float>(power);
}

}  // namespace mpq::convert::train
