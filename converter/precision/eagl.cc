#include "converter/precision/eagl.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "converter/parallel.h"
#include "converter/passes/block_sum.h"
#include "converter/precision/selector.h"

namespace mpq::convert::precision {
namespace {

constexpr int kCodes = 256;
using Histogram = std::array<uint64_t, kCodes>;

Histogram histogram_of(std::span<const int8_t> codes) {
  Histogram counts{};
  for (const int8_t code : codes) ++counts[static_cast<uint8_t>(code)];
  return counts;
}

struct CodeRange {
  float lo, hi;
};
CodeRange range_of(int bits) {
  return {-std::ldexp(1.0F, bits - 1), std::ldexp(1.0F, bits - 1) - 1.0F};
}

// Ties to even; |w / step| is clamped, so the sum with 1.5 * 2^23 has no fraction.
inline float round_code(float w, float inverse_step, CodeRange range) {
  constexpr float kMagic = 12582912.0F;
  const float code = std::min(std::max(w * inverse_step, range.lo), range.hi);
  return (code + kMagic) - kMagic;
}

// Squared error of weights on the grid of a step, their sum.
double grid_error(std::span<const float> weights, float step, int bits) {
  const CodeRange range = range_of(bits);
  const float inverse = 1.0F / step;
  return block_sum(weights.size(), [&](size_t i) {
    const float rest = weights[i] - step * round_code(weights[i], inverse, range);
    return rest * rest;
  });
}

// Line search over steps from far too fine to the one that clips nothing.
float mse_step(std::span<const float> weights, int bits) {
  constexpr int kCandidates = 48;
  constexpr float kFinest = 0.15F;
  float largest = 0.0F;
  for (const float w : weights) largest = std::max(largest, std::fabs(w));
  if (largest == 0.0F) return 1.0F;
  float best_step = 1.0F;
  double best_error = HUGE_VAL;
  for (int i = 1; i <= kCandidates; ++i) {
    const float share = kFinest + (1.0F - kFinest) * static_cast<float>(i) / kCandidates;
    const float step = largest * share / range_of(bits).hi;
    const double error = grid_error(weights, step, bits);
    if (error < best_error) {
      best_error = error;
      best_step = step;
    }
  }
  return best_step;
}

float lsq_step(std::span<const float> weights, int bits) {
  double sum = 0.0;
  for (const float w : weights) sum += static_cast<double>(std::fabs(w));
  if (sum == 0.0) return 1.0F;
  const double mean = sum / static_cast<double>(weights.size());
  return static_cast<float>(2.0 * mean / std::sqrt(static_cast<double>(range_of(bits).hi)));
}

// Calls body(begin, weights, step) for every part of a layer that has a step of its own, on all
// cores.
template <typename Body>
void for_steps(std::span<const float> weights, uint32_t channels, int bits, StepRule rule,
               const Body& body) {
  constexpr size_t kGrain = size_t{1} << 13;  // weights worth a thread
  const size_t parts = rule == StepRule::kLsq ? 1 : channels, size = weights.size() / parts;
  parallel_for(parts, kGrain / std::max<size_t>(size, 1), [&](size_t first, size_t last) {
    for (size_t p = first; p < last; ++p) {
      const auto part = weights.subspan(p * size, size);
      body(p * size, part, rule == StepRule::kLsq ? lsq_step(part, bits) : mse_step(part, bits));
    }
  });
}

double layer_entropy(std::span<const int8_t> codes, uint32_t channels, Pooling pooling) {
  return pooling == Pooling::kLayer ? code_entropy(codes) : mean_channel_entropy(codes, channels);
}

struct LayerCodes {
  std::vector<int8_t> high, low;  // low only where the gain needs it
};

double gain_of(const LayerCodes& codes, uint32_t channels, int low, const EaglOptions& options) {
  const double high_entropy = layer_entropy(codes.high, channels, options.pooling);
  switch (options.gain) {
    case EntropyGain::kEntropy:
      return high_entropy;
    case EntropyGain::kDifference:
      return high_entropy - layer_entropy(codes.low, channels, options.pooling);
    case EntropyGain::kExcess:
      return std::max(0.0, high_entropy - low);
    case EntropyGain::kWeighted:
      return high_entropy * static_cast<double>(codes.high.size());
  }
  return 0.0;
}

}  // namespace

double entropy_bits(std::span<const uint64_t> counts) {
  uint64_t total = 0;
  for (const uint64_t count : counts) total += count;
  double entropy = 0.0;
  for (const uint64_t count : counts) {
    if (count == 0) continue;
    const double p = static_cast<double>(count) / static_cast<double>(total);
    entropy -= p * std::log2(p);
  }
  return entropy;
}

double code_entropy(std::span<const int8_t> codes) { return entropy_bits(histogram_of(codes)); }

double mean_channel_entropy(std::span<const int8_t> codes, uint32_t channels) {
  const size_t per_channel = codes.size() / channels;
  double sum = 0.0;
  for (size_t c = 0; c < channels; ++c)
    sum += code_entropy(codes.subspan(c * per_channel, per_channel));
  return sum / channels;
}

std::vector<int8_t> weight_codes(std::span<const float> weights, uint32_t channels, int bits,
                                 StepRule rule) {
  std::vector<int8_t> codes(weights.size());
  for_steps(weights, channels, bits, rule,
            [&](size_t begin, std::span<const float> part, float step) {
              const CodeRange range = range_of(bits);
              const float inverse = 1.0F / step;
              for (size_t i = 0; i < part.size(); ++i)
                codes[begin + i] = static_cast<int8_t>(round_code(part[i], inverse, range));
            });
  return codes;
}

double code_noise(std::span<const float> weights, uint32_t channels, int bits, StepRule rule) {
  std::vector<double> error(weights.size());  // by where a part begins: one order of the sum
  for_steps(weights, channels, bits, rule,
            [&](size_t begin, std::span<const float> part, float step) {
              error[begin] = grid_error(part, step, bits);
            });
  double sum = 0.0;
  for (const double e : error) sum += e;
  return sum / static_cast<double>(weights.size());
}

Result<EaglScores> eagl(const Graph& graph, const Selection& selection, int high, int low,
                        const EaglOptions& options) {
  EaglScores scores;
  scores.layer_entropy.resize(selection.layers.size());
  for (const Group& group : selection.groups) {
    double sum = 0.0, largest = 0.0;
    LayerCodes pooled;
    for (const uint32_t index : group.layers) {
      const Layer& layer = selection.layers[index];
      const Node& node = graph.nodes[layer.node];
      LayerCodes codes;
      std::vector<float> weights = real_weights(graph, node);
      if (weights.size() != layer.weights)
        return Error{Status::kUnsupported, layer.name + ": its weights are no constant"};
      if (node.weight_quant && node.weight_quant->spec.bits == high) {
        codes.high = node.weight_quant->codes;
      } else {
        codes.high = weight_codes(weights, layer.channels, high, options.step);
        if (!group.fixed) scores.trained_codes = false;
      }
      if (options.gain == EntropyGain::kDifference)
        codes.low = weight_codes(weights, layer.channels, low, options.step);
      scores.layer_entropy[index] = layer_entropy(codes.high, layer.channels, options.pooling);
      const double gain = gain_of(codes, layer.channels, low, options);
      sum += gain;
      largest = std::max(largest, gain);
      if (options.group == GroupGain::kPooled) {
        pooled.high.insert(pooled.high.end(), codes.high.begin(), codes.high.end());
        pooled.low.insert(pooled.low.end(), codes.low.begin(), codes.low.end());
      }
    }
    switch (options.group) {
      case GroupGain::kSum:
        scores.gain.push_back(sum);
        break;
      case GroupGain::kMean:
        scores.gain.push_back(sum / static_cast<double>(group.layers.size()));
        break;
      case GroupGain::kMax:
        scores.gain.push_back(largest);
        break;
      case GroupGain::kPooled:  // channels of different layers do not mix: pooled over the codes
        scores.gain.push_back(gain_of(pooled, 1, low, options));
        break;
    }
  }
  return scores;
}

Result<Scores> score_eagl(const Question& question) {
  const std::vector<int>& bits = question.options.bits;
  Scores scores;
  scores.gain.assign(question.selection.groups.size(), std::vector<double>(bits.size()));
  for (size_t b = 0; b + 1 < bits.size(); ++b) {
    MPQ_TRY(EaglScores one,
            eagl(question.graph, question.selection, bits[b], bits.back(), question.options.eagl));
    scores.trained_codes = scores.trained_codes && one.trained_codes;
    for (size_t g = 0; g < scores.gain.size(); ++g) scores.gain[g][b] = one.gain[g];
    if (b == 0) scores.layer_entropy = std::move(one.layer_entropy);
  }
  return scores;
}

}  // namespace mpq::convert::precision
