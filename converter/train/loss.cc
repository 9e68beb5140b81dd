#include "converter/train/loss.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "converter/passes/block_sum.h"

namespace mpq::convert::train {
namespace {

// Probabilities of a row of logits, and the logarithm of their sum before it is divided out.
double softmax(const float* y, size_t classes, double temperature, double* p) {
  double top = y[0];
  for (size_t c = 1; c < classes; ++c) top = std::max(top, double{y[c]});
  double total = 0.0;
  for (size_t c = 0; c < classes; ++c) total += p[c] = std::exp((y[c] - top) / temperature);
  for (size_t c = 0; c < classes; ++c) p[c] /= total;
  return std::log(total) + top / temperature;
}

}  // namespace

double cross_entropy(std::span<const float> y, size_t classes, std::span<const int32_t> labels,
                     const LossTarget& target) {
  const double share = target.weight / static_cast<double>(labels.size());
  std::vector<double> p(classes);
  double loss = 0.0;
  for (size_t r = 0; r < labels.size(); ++r) {
    const float* const row = y.data() + r * classes;
    const auto label = static_cast<size_t>(labels[r]);
    loss += softmax(row, classes, 1.0, p.data()) - row[label];
    if (target.gradient.empty()) continue;
    for (size_t c = 0; c < classes; ++c)
      target.gradient[r * classes + c] +=
          static_cast<float>(share * (p[c] - (c == label ? 1.0 : 0.0)));
  }
  return target.weight * loss / static_cast<double>(labels.size());
}

double distillation(std::span<const float> y, std::span<const float> teacher, size_t classes,
                    float temperature, const LossTarget& target) {
  const size_t rows = y.size() / classes;
  const double t = temperature, share = target.weight / static_cast<double>(rows);
  std::vector<double> p(classes), q(classes);
  double loss = 0.0;
  for (size_t r = 0; r < rows; ++r) {
    const float *const student = y.data() + r * classes, *const other =
                                                             teacher.data() + r * classes;
    const double log_p = softmax(student, classes, t, p.data()),
                 log_q = softmax(other, classes, t, q.data());
    for (size_t c = 0; c < classes; ++c) {
      loss += t * t * q[c] * ((other[c] - student[c]) / t - log_q + log_p);
      if (!target.gradient.empty())
        target.gradient[r * classes + c] += static_cast<float>(share * t * (p[c] - q[c]));
    }
  }
  return target.weight * loss / static_cast<double>(rows);
}

double squared_error(std::span<const float> y, std::span<const float> teacher,
                     const LossTarget& target) {
  const auto share = static_cast<float>(2.0 * target.weight / static_cast<double>(y.size()));
  if (!target.gradient.empty())
    for (size_t i = 0; i < y.size(); ++i) target.gradient[i] += share * (y[i] - teacher[i]);
  const double sum = block_sum(y.size(), [&](size_t i) {
    const float e = y[i] - teacher[i];
    return e * e;
  });
  return target.weight * sum / static_cast<double>(y.size());
}

size_t count_correct(std::span<const float> y, size_t classes, std::span<const int32_t> labels) {
  size_t correct = 0;
  for (size_t r = 0; r < labels.size(); ++r) {
    const auto row = y.subspan(r * classes, classes);
    const auto best = std::max_element(row.begin(), row.end()) - row.begin();
    correct += best == labels[r] ? 1 : 0;
  }
  return correct;
}

}  // namespace mpq::convert::train
