#include "converter/precision/selector.h"

#include <algorithm>

#include "converter/passes/block_sum.h"
#include "converter/passes/calibrate.h"
#include "converter/precision/names.h"
#include "converter/train/quantizers.h"

namespace mpq::convert::precision {
namespace {

constexpr Selector kSelectors[] = {
    {"eagl", "entropy of the codes of weights", Needs::kNothing, score_eagl, nullptr},
    {"alps", "loss of a short fine-tuning, as mpqconvert alps measured it", Needs::kFile,
     score_file, nullptr},
    {"hawq", "trace of the Hessian times the noise of weights", Needs::kImages, score_hawq,
     nullptr},
    {"fit", "Fisher information times the noise of weights and activations", Needs::kImages,
     score_fit, nullptr},
    {"sqnr", "noise over signal of weights, with images of activations too", Needs::kNothing,
     score_sqnr, nullptr},
    {"lsq-step", "steps that LSQ learns at each precision", Needs::kImages, score_lsq_step,
     nullptr},
    {"gains", "a file of gains measured elsewhere", Needs::kFile, score_file, nullptr},
    {"constant", "the same for every group: the cheapest ones stay high", Needs::kNothing,
     score_constant, nullptr},
    {"first-to-last", "groups lowered from the first on", Needs::kNothing, nullptr, first_to_last},
    {"last-to-first", "groups lowered from the last on", Needs::kNothing, nullptr, last_to_first},
    {"random", "groups lowered in an order by the seed", Needs::kNothing, nullptr, random_order},
};

}  // namespace

std::span<const Selector> selectors() { return kSelectors; }

std::vector<std::string> search_methods() {
  std::vector<std::string> names;
  for (const Selector& row : kSelectors) names.emplace_back(row.name);
  return names;
}

Result<const Selector*> find_selector(const std::string& name) {
  const auto* const row = std::find_if(std::begin(kSelectors), std::end(kSelectors),
                                       [&](const Selector& s) { return name == s.name; });
  if (row != std::end(kSelectors)) return row;
  std::string known;
  for (const Selector& s : kSelectors) known += (known.empty() ? "" : ", ") + std::string(s.name);
  return Error{Status::kInvalidArgument, "unknown method '" + name + "'" +
                                             suggestion(name, search_methods()) +
                                             " Known: uniform, " + known};
}

Bits Question::at(const Group& group, int bits) const {
  const bool same = options.activation_bits == 0 || group.fixed;
  return {bits, same ? bits : options.activation_bits};
}

std::vector<std::vector<double>> gains_of(const Question& question, const Harm& harm) {
  std::vector<std::vector<double>> gains;
  for (const Group& group : question.selection.groups) {
    std::vector<double>& gain = gains.emplace_back(question.options.bits.size());
    for (const uint32_t layer : group.layers)
      for (size_t b = 0; b < gain.size() && !harm[layer].empty(); ++b)
        gain[b] += harm[layer].back() - harm[layer][b];
  }
  return gains;
}

double weight_noise(const Question& question, const Layer& layer, int bits) {
  const Node& node = question.graph.nodes[layer.node];
  if (node.weight_quant && node.weight_quant->spec.bits <= bits) return 0.0;
  const std::vector<float> w = real_weights(question.graph, node);
  return code_noise(w, layer.channels, bits, question.options.eagl.step);
}

double activation_noise(std::span<const float> x, int bits) {
  const QuantSpec grid = train::first_activation_grid(x, bits, train::FirstStep::kMse);
  std::vector<float> rounded(x.begin(), x.end());
  apply_grid(grid, rounded);
  const double sum = block_sum(x.size(), [&](size_t i) {
    const float rest = x[i] - rounded[i];
    return rest * rest;
  });
  return sum / static_cast<double>(std::max<size_t>(x.size(), 1));
}

double mean_square(std::span<const float> x) {
  const double sum = block_sum(x.size(), [&](size_t i) { return x[i] * x[i]; });
  return sum / static_cast<double>(std::max<size_t>(x.size(), 1));
}

}  // namespace mpq::convert::precision
