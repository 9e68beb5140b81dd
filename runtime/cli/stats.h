// Statistics of latencies.
#pragma once

#include <cstddef>
#include <vector>

namespace mpq::cli {

// Percentile p of n samples is the nearest rank: the ceil(p / 100 * n)-th smallest.
struct Stats {
  size_t n = 0;
  double min = 0, mean = 0, median = 0, sd = 0, max = 0;  // sd: of the sample, n - 1
  std::vector<double> sorted;

  double percentile(double p) const;
  // At least one sample lies above the percentile, so that it is not just the maximum.
  bool supports(double p) const { return static_cast<double>(n) * (100.0 - p) >= 100.0 - 1e-6; }
  double variation() const { return mean > 0 ? sd / mean : 0; }  // coefficient of variation
};

Stats summarise(std::vector<double> samples);

}  // namespace mpq::cli
