#include "converter/precision/eagl.h"

#include <algorithm>
#include <array>
#include <cmath>

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

float round_code(float w, float inverse_step, CodeRange range) {
  return std::nearbyint(std::clamp(w * inverse_step, range.lo, range.hi));
}

// Line search over steps from far too fine to the one that clips nothing.
float mse_step(std::span<const float> weights, int bits) {
  constexpr int kCandidates = 48;
  constexpr float kFinest = 0.15F;
  float largest = 0.0F;
  for (const float w : weights) largest = std::max(largest, std::fabs(w));
  if (largest == 0.0F) return 1.0F;
  const CodeRange range = range_of(bits);
  float best_step = 1.0F;
  double best_error = HUGE_VAL;
  for (int i = 1; i <= kCandidates; ++i) {
    const float share = kFinest + (1.0F - kFinest) * static_cast<float>(i) / kCandidates;
    const float step = largest * share / range.hi;
    const float inverse = 1.0F / step;
    double error = 0.0;
    for (const float w : weights) {
      const float rest = w - step * round_code(w, inverse, range);
      error += static_cast<double>(rest * rest);
    }
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

void append_codes(std::span<const float> weights, float step, int bits,
                  std::vector<int8_t>* codes) {
  const CodeRange range = range_of(bits);
  const float inverse = 1.0F / step;
  for (const float w : weights)
    codes->push_back(static_cast<int8_t>(round_code(w, inverse, range)));
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
  std::vector<int8_t> codes;
  codes.reserve(weights.size());
  if (rule == StepRule::kLsq) {
    append_codes(weights, lsq_step(weights, bits), bits, &codes);
    return codes;
  }
  const size_t per_channel = weights.size() / channels;
  for (size_t c = 0; c < channels; ++c) {
    const auto channel = weights.subspan(c * per_channel, per_channel);
    append_codes(channel, mse_step(channel, bits), bits, &codes);
  }
  return codes;
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

}  // namespace mpq::convert::precision
