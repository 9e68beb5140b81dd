// From a float network, batch norm unfolded, to the network that is trained: quantisers where
// lower() wants codes, weights on codes, first steps from what the network computes.
#pragma once

#include "converter/graph.h"
#include "converter/passes/quantize.h"
#include "converter/train/tape.h"

namespace mpq::convert::train {

enum class FirstStep : uint8_t {
  kMse,  // least squared error
  kLsq,  // 2 mean|x| / sqrt(largest code)
};

struct QuantizerOptions {
  FirstStep first = FirstStep::kMse;
  bool channel_steps = false;  // weights: a step for each output channel
  int residual_bits = 8;
};

// samples: a tape of `graph` that has run on samples, batch norm by its running moments. Layers
// that `bits` does not name have 8/8. Batch norm behind a layer gets gains of at least 0 (the
// layer's weights change sign), so that it can be folded into the scales of codes.
Result<Graph> add_quantizers(const Graph& graph, const BitsMap& bits, Tape* samples,
                             const QuantizerOptions& options = {});

// The grid of an activation: values that are never negative have zero point 0.
QuantSpec first_activation_grid(std::span<const float> x, int bits, FirstStep rule);
// Codes of weights [channels][...]: full range, one step or a step a channel.
WeightQuant first_weight_grid(std::span<const float> weights, size_t channels, int bits,
                              const QuantizerOptions& options);

// The float network of one with quantisers: weights as their codes mean them.
Graph without_quantizers(const Graph& graph);

// Steps, zero points and codes of `trained` for the quantisers of `graph` at the same place and
// width. Weights of all widths go on from where training left them, where that is known.
void inherit_steps(const Graph& trained, Graph* graph);

// Weights on codes move to where they were rounded from, or, where that is not known, to places
// that follow from the seed: within half a code, and none to another code. Where all begin on their
// codes nothing changes for many steps, and then too much at once. Weights on the last code of the
// range begin below it: beyond it they have no gradient.
void start_within(uint64_t seed, Graph* graph);
// Only where they are not known: positions that follow from the seed.
void draw_positions(uint64_t seed, Graph* graph);

}  // namespace mpq::convert::train
