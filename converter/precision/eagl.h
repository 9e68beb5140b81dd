// EAGL (entropy approximation guided layer selection): the gain of keeping a layer at the high
// precision is the entropy of its quantised weights. A 4-bit layer whose entropy is near 2 bits
// loses little at 2 bits. Our implementation of the method described in arXiv 2301.13330; where its
// text leaves a choice, there is an option.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "converter/graph.h"
#include "converter/precision/groups.h"

namespace mpq::convert::precision {

// -sum p log2 p of a histogram; 0 log 0 = 0.
double entropy_bits(std::span<const uint64_t> counts);

// Of all codes of a layer together; or the mean of the entropies of its output channels.
double code_entropy(std::span<const int8_t> codes);
double mean_channel_entropy(std::span<const int8_t> codes, uint32_t channels);

// How float weights get codes when the network carries none. Codes and entropy depend on it.
enum class StepRule : uint8_t {
  kMse,  // per channel, least squared error: what quantisation without training uses
  kLsq,  // per layer, 2 mean|w| / sqrt(largest code): where LSQ training starts
};
std::vector<int8_t> weight_codes(std::span<const float> weights, uint32_t channels, int bits,
                                 StepRule rule);

// Mean squared error of the weights on the grid of those codes.
double code_noise(std::span<const float> weights, uint32_t channels, int bits, StepRule rule);

enum class EntropyGain : uint8_t {
  kEntropy,     // H at the high precision
  kDifference,  // H at the high precision - H at the low one
  kExcess,      // max(0, H - low bits)
  kWeighted,    // H * number of weights
};
enum class Pooling : uint8_t { kLayer, kChannelMean };
enum class GroupGain : uint8_t {
  kSum,
  kMean,
  kMax,
  kPooled
};  // kPooled: one histogram of all members

struct EaglOptions {
  EntropyGain gain = EntropyGain::kEntropy;
  Pooling pooling = Pooling::kLayer;
  GroupGain group = GroupGain::kSum;
  StepRule step = StepRule::kMse;
};

struct EaglScores {
  std::vector<double> layer_entropy;  // at the high precision
  std::vector<double> gain;           // per group
  bool trained_codes = true;  // false: some layer had no codes of that width, and got them here
};

// Gains of `high` bits over `low` bits for every group. Layers with codes of `high` bits use those;
// others are quantised from their real weights.
Result<EaglScores> eagl(const Graph& graph, const Selection& selection, int high, int low,
                        const EaglOptions& options = {});

}  // namespace mpq::convert::precision
