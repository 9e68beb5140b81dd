// y = gamma * (conv(x) + bias - mean) / sqrt(variance + epsilon) + beta is a convolution again:
// weights times f = gamma / sqrt(variance + epsilon) per output channel, bias (bias - mean) * f +
// beta. Integer weights keep their codes; f goes into their scales.

#include <cmath>

#include "converter/passes/pass.h"

namespace mpq::convert {
namespace {

bool is_weighted(const Node& node) {
  return std::holds_alternative<Conv>(node.op) || std::holds_alternative<Linear>(node.op);
}

struct Affine {
  std::vector<double> factor, offset;
};

Affine affine_of(const Graph& graph, const Node& bn) {
  const auto data = [&](size_t i) -> const std::vector<float>& {
    return graph.values[bn.inputs[i]].data;
  };
  Affine affine;
  for (size_t c = 0; c < data(1).size(); ++c) {
    const double f =
        data(1)[c] / std::sqrt(double{data(4)[c]} + std::get<BatchNorm>(bn.op).epsilon);
    affine.factor.push_back(f);
    affine.offset.push_back(data(2)[c] - data(3)[c] * f);
  }
  return affine;
}

// Scales per output channel with the factors in them. A negative factor flips the codes, which
// needs the negative of each to exist.
Checked scale_codes(const Node& layer, const Affine& affine, WeightQuant* quant) {
  const size_t channels = affine.factor.size(), row = quant->codes.size() / channels;
  std::vector<float> scale(channels);
  bool flipped = false;
  for (size_t c = 0; c < channels; ++c) {
    const float old = quant->spec.scale.size() == 1 ? quant->spec.scale[0] : quant->spec.scale[c];
    scale[c] = static_cast<float>(std::abs(affine.factor[c]) * old);
    if (!(scale[c] > 0.0F) ||
        !std::isfinite(scale[c])) {  // the channel is constant: no code may count
      scale[c] = old;
      for (size_t i = 0; i < row; ++i) quant->codes[c * row + i] = 0;
      if (!quant->positions.empty()) std::fill_n(&quant->positions[c * row], row, 0.0F);
    }
    if (affine.factor[c] >= 0) continue;
    for (size_t i = 0; i < row; ++i) {
      int8_t& code = quant->codes[c * row + i];
      if (-code > quant->spec.hi && -code > (1 << (quant->spec.bits - 1)) - 1)
        return Error{
            Status::kUnsupported,
            "node '" + layer.name + "': the batch norm after it has a negative factor in channel " +
                std::to_string(c) + ", and weight code " + std::to_string(code) +
                " has no negative; fold batch norm before quantising, or use narrow range"};
      code = static_cast<int8_t>(-code);
      if (!quant->positions.empty()) quant->positions[c * row + i] = -quant->positions[c * row + i];
    }
    flipped = true;
  }
  if (flipped) {  // the range must hold both signs
    const int32_t reach = std::max(quant->spec.hi, -quant->spec.lo);
    quant->spec.lo = std::max(-reach, -(1 << (quant->spec.bits - 1)));
    quant->spec.hi = std::min(reach, (1 << (quant->spec.bits - 1)) - 1);
  }
  quant->spec.scale = std::move(scale);
  return Ok{};
}

Checked fold_into(Graph* graph, Node* layer, const Affine& affine) {
  Value weights = graph->values[layer->inputs[1]];  // copies: another node may share them
  const size_t channels = affine.factor.size(), row = weights.data.size() / channels;
  bool unchanged = true;
  for (const double f : affine.factor) unchanged = unchanged && f == 1.0;
  if (!unchanged) {
    if (layer->weight_quant) MPQ_CHECK(scale_codes(*layer, affine, &*layer->weight_quant));
    for (size_t i = 0; i < weights.data.size(); ++i) {
      const size_t c = i / row;
      weights.data[i] = layer->weight_quant
                            ? static_cast<float>(layer->weight_quant->codes[i]) *
                                  layer->weight_quant->spec.scale[c]
                            : static_cast<float>(weights.data[i] * affine.factor[c]);
    }
    weights.name = layer->name + "_weights_folded";
    layer->inputs[1] = graph->add_value(std::move(weights));
  }
  std::vector<float> bias(channels);
  const bool has_bias = layer->inputs.size() > 2 && layer->inputs[2] != kNoValue;
  for (size_t c = 0; c < channels; ++c) {
    const double old = has_bias ? graph->values[layer->inputs[2]].data[c] : 0.0;
    bias[c] = static_cast<float>(old * affine.factor[c] + affine.offset[c]);
  }
  layer->inputs.resize(3, kNoValue);
  layer->inputs[2] = graph->add_value({.name = layer->name + "_bias_folded",
                                       .shape = {static_cast<int64_t>(channels)},
                                       .data = std::move(bias),
                                       .is_constant = true});
  return Ok{};
}

// A batch norm without a layer of its own becomes a 1x1 depthwise convolution, so that nothing
// after this pass has to know batch norm.
Conv as_depthwise(Graph* graph, const Affine& affine, Node* bn) {
  const auto channels = static_cast<int64_t>(affine.factor.size());
  const std::vector<float> gain(affine.factor.begin(), affine.factor.end()),
      shift(affine.offset.begin(), affine.offset.end());
  const ValueId weights = graph->add_value({.name = bn->name + "_gain",
                                            .shape = {channels, 1, 1, 1},
                                            .data = gain,
                                            .is_constant = true});
  const ValueId bias = graph->add_value(
      {.name = bn->name + "_shift", .shape = {channels}, .data = shift, .is_constant = true});
  bn->inputs = {bn->inputs[0], weights, bias};
  return Conv{.groups = static_cast<uint32_t>(channels)};
}

}  // namespace

Checked fold_bn(Graph* graph) {
  for (size_t i = 0; i < graph->nodes.size(); ++i) {
    Node& bn = graph->nodes[i];
    if (!std::holds_alternative<BatchNorm>(bn.op)) continue;
    const Affine affine = affine_of(*graph, bn);
    for (const double v : affine.factor)
      if (!std::isfinite(v))
        return Error{Status::kInvalidArgument,
                     "node '" + bn.name + "': variance + epsilon is not positive"};
    const int before = producer(*graph, bn.inputs[0]);
    bool alone = before >= 0 && is_weighted(graph->nodes[static_cast<size_t>(before)]) &&
                 consumers(*graph, bn.inputs[0]).size() == 1;
    for (const ValueId output : graph->outputs) alone = alone && output != bn.inputs[0];
    if (alone) {
      Node& layer = graph->nodes[static_cast<size_t>(before)];
      MPQ_CHECK(fold_into(graph, &layer, affine));
      layer.output = bn.output;
      graph->nodes.erase(graph->nodes.begin() + static_cast<ptrdiff_t>(i));
      --i;
    } else if (graph->values[bn.inputs[0]].shape.size() == 4) {
      bn.op = as_depthwise(graph, affine, &bn);
    }
  }
  remove_dead(graph);
  return Ok{};
}

}  // namespace mpq::convert
