// HAWQ (arXiv 1911.03852, 2011.10680): the harm of rounding a layer's weights is the trace of the
// loss's Hessian in them, a weight, times the squared error. The trace by Hutchinson's estimate,
// E[v' H v] for v of random signs; H v from gradients on either side of the weights. Two passes a
// probe and layer.
#include <algorithm>
#include <cmath>

#include "converter/precision/gradients.h"
#include "converter/random.h"

namespace mpq::convert::precision {
namespace {

constexpr uint32_t kBatch = 64;
constexpr double kStep = 1e-2;  // of the weights' root mean square

// v' H v of one layer for one v, the others at rest: what couples layers, often more than what is
// looked for, stays out.
Result<double> probe(LossGradient* loss, size_t layer, uint64_t seed) {
  const std::span<float> w = loss->tape().data(loss->weights(layer));
  const std::vector<float> start(w.begin(), w.end());
  const double size = std::sqrt(mean_square(w));
  const auto step = static_cast<float>(kStep * (size > 0.0 ? size : 1.0));
  std::vector<float> signs;
  for (size_t i = 0; i < w.size(); ++i)
    signs.push_back((next_random(&seed) >> 63) == 0 ? 1.0F : -1.0F);
  double sum = 0.0;
  for (const float side : {1.0F, -1.0F}) {
    for (size_t i = 0; i < w.size(); ++i) w[i] = start[i] + side * step * signs[i];
    for (size_t batch = 0; batch < loss->batches(); ++batch) {
      MPQ_CHECK(loss->run(batch));
      const std::span<const float> g = loss->tape().gradient(loss->weights(layer));
      for (size_t i = 0; i < g.size(); ++i) sum += side * double{g[i]} * signs[i];
    }
  }
  std::copy(start.begin(), start.end(), w.begin());
  return sum / (2.0 * step) / static_cast<double>(loss->batches());
}

}  // namespace

Result<std::vector<TraceEstimate>> hessian_traces(const Question& question) {
  const size_t count =
      question.options.images == nullptr ? kBatch : question.options.images->count();
  const auto batch = static_cast<uint32_t>(
      std::min({size_t{kBatch}, question.options.samples, std::max<size_t>(count, 1)}));
  MPQ_TRY(LossGradient loss, LossGradient::of(question, batch, false));
  const size_t probes = question.options.probes;
  std::vector<TraceEstimate> traces(question.selection.layers.size());
  for (size_t layer = 0; layer < traces.size(); ++layer) {
    if (question.selection.groups[question.selection.layers[layer].group].fixed) continue;
    double sum = 0.0, square = 0.0;
    for (size_t p = 0; p < probes; ++p) {
      MPQ_TRY(const double one,
              probe(&loss, layer, question.options.seed + (p << 40) + (layer << 20)));
      sum += one;
      square += one * one;
    }
    const auto n = static_cast<double>(probes);
    traces[layer].mean = sum / n;
    if (probes > 1)
      traces[layer].standard_error =
          std::sqrt(std::max(square / n - sum * sum / n / n, 0.0) / (n - 1.0));
  }
  return traces;
}

Result<Scores> score_hawq(const Question& question) {
  MPQ_TRY(const std::vector<TraceEstimate> traces, hessian_traces(question));
  Harm harm(traces.size());
  Scores scores;
  for (const Group& group : question.selection.groups) {
    double variance = 0.0;
    for (const uint32_t layer : group.layers) {
      if (group.fixed) break;
      for (const int bits : question.options.bits)
        harm[layer].push_back(weight_noise(question, question.selection.layers[layer], bits));
      const double spread = harm[layer].back() - harm[layer].front();
      variance += std::pow(traces[layer].standard_error * spread, 2);
      for (double& h : harm[layer]) h *= std::max(traces[layer].mean, 0.0);
    }
    scores.standard_error.push_back(std::sqrt(variance));
  }
  scores.gain = gains_of(question, harm);
  return scores;
}

}  // namespace mpq::convert::precision
