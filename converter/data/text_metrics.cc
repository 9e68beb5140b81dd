#include "converter/data/text_metrics.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace mpq::data {

namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Ranks from 1 on; equal values share the mean of the ranks that they take up.
std::vector<double> ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [values](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i) ranks[order[i]] = static_cast<double>(begin + 1 + end) / 2;
  }
  return ranks;
}

bool all_numbers(std::span<const double> values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

}  // namespace

double pearson(std::span<const double> x, std::span<const double> y) {
  assert(x.size() == y.size());
  if (x.size() < 2 || !all_numbers(x) || !all_numbers(y)) return kUndefined;
  const double mean_x = mean(x), mean_y = mean(y);
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double dx = x[i] - mean_x, dy = y[i] - mean_y;
    xy += dx * dy;
    xx += dx * dx;
    yy += dy * dy;
  }
  const auto constant = [](std::span<const double> v) {
    return std::all_of(v.begin(), v.end(), [v](double value) { return value == v.front(); });
  };
  if (constant(x) || constant(y)) return kUndefined;
  return std::clamp(xy / std::sqrt(xx) / std::sqrt(yy), -1.0, 1.0);
}

double spearman(std::span<const double> x, std::span<const double> y) {
  if (!all_numbers(x) || !all_numbers(y)) return kUndefined;
  return pearson(ranks(x), ranks(y));
}

double accuracy(std::span<const int32_t> predicted, std::span<const int32_t> expected) {
  assert(predicted.size() == expected.size());
  size_t known = 0, right = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    known += expected[i] >= 0;
    right += expected[i] >= 0 && predicted[i] == expected[i];
  }
  return known == 0 ? kUndefined : static_cast<double>(right) / static_cast<double>(known);
}

}  // namespace mpq::data
