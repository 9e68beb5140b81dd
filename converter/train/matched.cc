#include "converter/train/matched.h"

#include <algorithm>

#include "converter/passes/block_sum.h"
#include "converter/train/loss.h"

namespace mpq::convert::train {

void share_equally(float share, std::span<Matched> values) {
  for (Matched& each : values) each.share = share / static_cast<float>(values.size());
}

double matched_error(std::span<const Matched> values, Tape* tape, Tape* teacher,
                     std::vector<std::vector<float>>* gradients) {
  double error = 0.0;
  gradients->resize(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const std::span<const float> y = tape->data(values[i].value),
                                 target = teacher->data(values[i].target);
    const double energy = block_sum(y.size(), [&](size_t k) { return target[k] * target[k]; }) /
                          static_cast<double>(y.size());
    std::vector<float>& gradient = (*gradients)[i];
    gradient.assign(y.size(), 0.0F);
    error += squared_error(
        y, target, {static_cast<float>(values[i].share / std::max(energy, 1e-12)), gradient});
  }
  return error;
}

}  // namespace mpq::convert::train
