// y = (x - mean) / sqrt(variance + epsilon) * gamma + beta over each row.
#include <cmath>
#include <memory>

#include "converter/train/loops.h"

namespace mpq::convert::train {
namespace {

struct Moments {
  float mean, factor;  // factor: 1 / sqrt(variance + epsilon)
};

Moments moments_of(const float* x, size_t width, float epsilon) {
  double mean = 0.0, square = 0.0;
  for (size_t i = 0; i < width; ++i) mean += x[i];
  mean /= static_cast<double>(width);
  for (size_t i = 0; i < width; ++i) square += (x[i] - mean) * (x[i] - mean);
  return {static_cast<float>(mean),
          static_cast<float>(1.0 / std::sqrt(square / static_cast<double>(width) + epsilon))};
}

}  // namespace

Step make_layer_norm(const StepContext& context) {
  const size_t width = context.width(), grain = kGrain / width + 1;
  const float epsilon = std::get<LayerNorm>(context.node.op).epsilon;
  const auto rows = std::make_shared<std::vector<Moments>>();  // of both functions
  Step step;
  step.forward = [=](Inputs in, std::span<float> y, const Run&) {
    rows->resize(y.size() / width);
    parallel_for(rows->size(), grain, [&](size_t begin, size_t end) {
      for (size_t r = begin; r < end; ++r) {
        const float* const x = in[0].data() + r * width;
        const Moments m = (*rows)[r] = moments_of(x, width, epsilon);
        for (size_t i = 0; i < width; ++i)
          y[r * width + i] = (x[i] - m.mean) * m.factor * in[1][i] + in[2][i];
      }
    });
  };
  step.backward = [=](Inputs in, std::span<const float>, std::span<const float> dy,
                      std::span<const Sink> sinks, const Run&) {
    const float *const x = in[0].data(), *const gamma = in[1].data();
    const Sink& dx = sinks[0];
    // With g = dy gamma and n = (x - mean) factor: dx = factor (g - mean(g) - n mean(g n)).
    if (!dx.grad.empty())
      parallel_for(rows->size(), grain, [&](size_t begin, size_t end) {
        for (size_t r = begin; r < end; ++r) {
          const Moments m = (*rows)[r];
          double sum = 0.0, projection = 0.0;
          for (size_t i = 0; i < width; ++i) {
            const float g = dy[r * width + i] * gamma[i];
            sum += g;
            projection += g * (x[r * width + i] - m.mean) * m.factor;
          }
          const auto mean_g = static_cast<float>(sum / static_cast<double>(width)),
                     mean_gn = static_cast<float>(projection / static_cast<double>(width));
          for (size_t i = r * width; i < (r + 1) * width; ++i) {
            const float n = (x[i] - m.mean) * m.factor;
            const float v = m.factor * (dy[i] * gamma[i - r * width] - mean_g - n * mean_gn);
            dx.grad[i] = dx.add ? dx.grad[i] + v : v;
          }
        }
      });
    if (sinks[1].grad.empty() && sinks[2].grad.empty()) return;
    const std::vector<double> sums =
        sum_rows(rows->size(), 2 * width, [&](size_t r, float* partial) {
          const Moments m = (*rows)[r];
          for (size_t i = 0; i < width; ++i) {
            const float g = dy[r * width + i];
            partial[i] += g * (x[r * width + i] - m.mean) * m.factor;
            partial[width + i] += g;
          }
        });
    give_sums(sinks[1], sums);
    give_sums(sinks[2], sums, width);
  };
  return step;
}

}  // namespace mpq::convert::train
