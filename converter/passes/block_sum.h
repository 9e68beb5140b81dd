// Sums that the compiler can vectorise and that still have one fixed order.
#pragma once

#include <algorithm>
#include <cstddef>

namespace mpq::convert {

// term(0) + ... + term(count - 1): 16 binary32 lanes over blocks of 1024, blocks in binary64.
template <typename Term>
double block_sum(size_t count, const Term& term) {
  constexpr size_t kLanes = 16, kBlock = 1024;
  double sum = 0.0;
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t end = std::min(count, begin + kBlock),
                 whole = begin + (end - begin) / kLanes * kLanes;
    float lanes[kLanes] = {};
    for (size_t i = begin; i < whole; i += kLanes)
      for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
    for (size_t i = whole; i < end; ++i) lanes[i - whole] += term(i);
    for (const float lane : lanes) sum += lane;
  }
  return sum;
}

}  // namespace mpq::convert
