// Do two selectors rank alike?
#pragma once

#include <cmath>
#include <span>

namespace mpq::convert::precision {

// Kendall's tau-b of two scorings of the same things: 1 the same order, -1 the opposite one, 0 when
// either has no order at all. Pairs that tie on one side count for the other only.
inline double kendall_tau(std::span<const double> a, std::span<const double> b) {
  double agree = 0.0, of_a = 0.0, of_b = 0.0;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const double x = a[i] - a[j], y = b[i] - b[j];
      if (x != 0.0) ++of_a;
      if (y != 0.0) ++of_b;
      if (x != 0.0 && y != 0.0) agree += (x > 0.0) == (y > 0.0) ? 1.0 : -1.0;
    }
  return of_a > 0.0 && of_b > 0.0 ? agree / std::sqrt(of_a * of_b) : 0.0;
}

}  // namespace mpq::convert::precision
