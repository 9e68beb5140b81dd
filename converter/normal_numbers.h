// Normally distributed numbers that are the same on every platform: first weights.
#pragma once

#include <cmath>
#include <numbers>
#include <vector>

#include "converter/random.h"

namespace mpq::convert {

// Box and Muller's transform of a counter's random numbers.
inline std::vector<float> normal_numbers(size_t count, double deviation, uint64_t* state) {
  constexpr double kUnit = 1.0 / 9007199254740992.0;  // 2^-53
  std::vector<float> data(count);
  for (float& v : data) {
    const double a = static_cast<double>((next_random(state) >> 11) + 1) * kUnit;
    const double b = static_cast<double>(next_random(state) >> 11) * kUnit;
    v = static_cast<float>(deviation * std::sqrt(-2.0 * std::log(a)) *
                           std::cos(2.0 * std::numbers::pi * b));
  }
  return data;
}

}  // namespace mpq::convert
