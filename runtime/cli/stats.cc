#include "runtime/cli/stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mpq::cli {

double Stats::percentile(double p) const {
  if (n == 0) return 0.0;
  const double rank = std::ceil(p * static_cast<double>(n) / 100.0);
  return sorted[static_cast<size_t>(std::clamp(rank, 1.0, static_cast<double>(n))) - 1];
}

Stats summarise(std::vector<double> samples) {
  Stats s;
  s.n = samples.size();
  if (s.n == 0) return s;
  std::sort(samples.begin(), samples.end());
  const auto n = static_cast<double>(s.n);
  s.mean = std::accumulate(samples.begin(), samples.end(), 0.0) / n;
  double squares = 0.0;
  for (const double x : samples) squares += (x - s.mean) * (x - s.mean);
  s.sd = s.n > 1 ? std::sqrt(squares / (n - 1.0)) : 0.0;
  s.min = samples.front();
  s.max = samples.back();
  s.sorted = std::move(samples);
  s.median = s.percentile(50);
  return s;
}

}  // namespace mpq::cli
