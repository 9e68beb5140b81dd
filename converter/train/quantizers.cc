#include "converter/train/quantizers.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "converter/passes/calibrate.h"
#include "converter/passes/fill_quantizers.h"
#include "converter/passes/insert_quantizers.h"
#include "converter/passes/pass.h"
#include "converter/passes/weights.h"
#include "converter/random.h"
#include "converter/train/lsq.h"

namespace mpq::convert::train {
namespace {

bool is_weighted(const Node& node) {
  return std::holds_alternative<Conv>(node.op) || std::holds_alternative<Linear>(node.op);
}

// The layer that a batch norm is folded into later, or -1.
int layer_before(const Graph& graph, const Node& bn) {
  const int before = producer(graph, bn.inputs[0]);
  const bool folds = before >= 0 && is_weighted(graph.nodes[static_cast<size_t>(before)]) &&
                     consumers(graph, bn.inputs[0]).size() == 1;
  return folds ? before : -1;
}

void negate_row(std::vector<float>* data, size_t row, size_t rows) {
  const size_t width = data->size() / rows;
  for (size_t i = row * width; i < (row + 1) * width; ++i) (*data)[i] = -(*data)[i];
}

// bn(w x + b) with gain g is bn(-w x - b) with gain -g, mean -m.
Checked make_gains_positive(Graph* graph) {
  for (const Node& bn : graph->nodes) {
    if (!std::holds_alternative<BatchNorm>(bn.op)) continue;
    const int before = layer_before(*graph, bn);
    if (before < 0)
      return Error{Status::kUnsupported,
                   bn.name + " (batch_norm): has no layer of its own to be folded into"};
    const Node& layer = graph->nodes[static_cast<size_t>(before)];
    std::vector<float>& gamma = graph->values[bn.inputs[1]].data;
    for (size_t c = 0; c < gamma.size(); ++c) {
      if (!(gamma[c] < 0.0F)) continue;
      gamma[c] = -gamma[c];
      negate_row(&graph->values[bn.inputs[3]].data, c, gamma.size());
      negate_row(&graph->values[layer.inputs[1]].data, c, gamma.size());
      if (layer.inputs.size() > 2 && layer.inputs[2] != kNoValue)
        negate_row(&graph->values[layer.inputs[2]].data, c, gamma.size());
    }
  }
  return Ok{};
}

LayerBits bits_of(const BitsMap& bits, const Node& node) {
  const auto entry = bits.find(node.name);
  return entry == bits.end() ? LayerBits{} : entry->second;
}

// The edges that lower() wants codes on, at their widths. Batch norm is folded in a copy of the
// graph: the values that its nodes read are those of the graph itself.
Result<std::vector<CodeReader>> image_readers(const Graph& graph, const BitsMap& bits,
                                              int residual_bits) {
  Graph folded = graph;
  MPQ_CHECK(fold_bn(&folded));
  std::map<std::string, size_t> index;
  for (size_t i = 0; i < graph.nodes.size(); ++i) index[graph.nodes[i].name] = i;
  std::vector<CodeReader> readers;
  for (const MissingQuantizer& edge : missing_quantizers(folded)) {
    if (edge.is_weights) continue;
    const Node& node = folded.nodes[edge.node];
    const int width = is_weighted(node) ? bits_of(bits, node).activation : residual_bits;
    readers.push_back({index.at(node.name), edge.input, {node.inputs[edge.input], width}});
  }
  return readers;
}

// Of a network of rows: what layers read. Query, key and value come with the attention.
std::vector<CodeReader> row_readers(const Graph& graph, const BitsMap& bits) {
  constexpr int kAttentionBits = 8;
  std::vector<CodeReader> readers;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (is_weighted(node))
      readers.push_back({i, 0, {node.inputs[0], bits_of(bits, node).activation}});
    if (std::holds_alternative<Attention>(node.op))
      for (size_t k = 0; k < 3; ++k) readers.push_back({i, k, {node.inputs[k], kAttentionBits}});
  }
  return readers;
}

QuantSpec grid_for(const Graph& graph, const CodeReader& reader, std::span<const float> x,
                   FirstStep rule) {
  const auto* const attention = std::get_if<Attention>(&graph.nodes[reader.node].op);
  if (attention == nullptr) return first_activation_grid(x, reader.key.second, rule);
  const auto width = static_cast<size_t>(graph.values[reader.key.first].shape[1]);
  return choose_symmetric_grid(x, x, width, attention->heads, reader.key.second, {});
}

Checked check_bits(const Graph& graph, const BitsMap& bits) {
  for (const auto& [name, layer] : bits) {
    const auto node = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                   [&name = name](const Node& n) { return n.name == name; });
    if (node == graph.nodes.end() || !is_weighted(*node))
      return Error{Status::kNotFound, "precision map: no conv or linear node '" + name + "'"};
    for (const int b : {layer.weight, layer.activation})
      if (b != 8 && b != 4 && b != 2)
        return Error{Status::kInvalidArgument,
                     "precision map: " + name + ": " + std::to_string(b) + " bits not in {2,4,8}"};
  }
  return Ok{};
}

}  // namespace

QuantSpec first_activation_grid(std::span<const float> x, int bits, FirstStep rule) {
  if (rule == FirstStep::kMse) return choose_grid(x, x, bits, {});
  QuantSpec spec;
  spec.bits = bits;
  spec.hi = (1 << bits) - 1;
  const bool negative = std::any_of(x.begin(), x.end(), [](float v) { return v < 0.0F; });
  if (negative) spec.zero_point = 1 << (bits - 1);
  spec.scale = {lsq_first_step(x, spec.hi - spec.zero_point)};
  return spec;
}

WeightQuant first_weight_grid(std::span<const float> weights, size_t channels, int bits,
                              const QuantizerOptions& options) {
  const int32_t half = 1 << (bits - 1);
  WeightQuant quant{{bits, true, {}, 0, -half, half - 1}, {}, {}};
  const size_t steps = options.channel_steps ? channels : 1, part = weights.size() / steps;
  for (size_t s = 0; s < steps; ++s) {
    const std::span<const float> own = weights.subspan(s * part, part);
    const float step = options.first == FirstStep::kMse ? search_weight_scale(own, {}, bits)
                                                        : lsq_first_step(own, half - 1);
    quant.spec.scale.push_back(step);
  }
  requantise(weights, &quant);
  return quant;
}

Result<Graph> add_quantizers(const Graph& graph, const BitsMap& bits, Tape* samples,
                             const QuantizerOptions& options) {
  MPQ_CHECK(check_bits(graph, bits));
  if (has_quantizers(graph))
    return Error{Status::kUnsupported, "the network has quantisers already"};
  Graph result = graph;
  std::vector<CodeReader> readers;
  if (graph.sequence_length == 0) {
    MPQ_CHECK(make_gains_positive(&result));
    MPQ_TRY(readers, image_readers(result, bits, options.residual_bits));
  } else {
    readers = row_readers(result, bits);
  }
  std::map<GridKey, QuantSpec> grids;
  for (const CodeReader& reader : readers)
    if (!grids.contains(reader.key))
      grids[reader.key] = grid_for(result, reader, samples->data(reader.key.first), options.first);
  for (Node& node : result.nodes) {
    if (!is_weighted(node)) continue;
    const Value& weights = result.values[node.inputs[1]];
    node.weight_quant = first_weight_grid(weights.data, static_cast<size_t>(weights.shape[0]),
                                          bits_of(bits, node).weight, options);
  }
  insert_quantizers(&result, grids, readers);
  MPQ_CHECK(check(result));
  return result;
}

Graph without_quantizers(const Graph& graph) {
  Graph real = graph;
  std::map<ValueId, ValueId> source;  // of what a quantiser gives
  real.nodes.clear();
  for (Node node : graph.nodes) {
    for (ValueId& input : node.inputs)
      if (const auto found = source.find(input); found != source.end()) input = found->second;
    if (std::holds_alternative<FakeQuant>(node.op)) {
      source[node.output] = node.inputs[0];
      continue;
    }
    if (node.weight_quant) {
      real.values[node.inputs[weights_input(node)]].data = real_weights(graph, node);
      node.weight_quant.reset();
    }
    real.nodes.push_back(std::move(node));
  }
  for (ValueId& output : real.outputs)
    if (const auto found = source.find(output); found != source.end()) output = found->second;
  return real;
}

constexpr float kSpread = 0.9F;  // of a code

void draw_positions(uint64_t seed, Graph* graph) {
  for (Node& node : graph->nodes) {
    // A table of words keeps its codes (tape.h).
    if (!node.weight_quant || !node.weight_quant->positions.empty() ||
        std::holds_alternative<Embedding>(node.op))
      continue;
    for (const int8_t code : node.weight_quant->codes) {
      const float drawn = static_cast<float>(next_random(&seed) >> 40) * 0x1p-24F - 0.5F;
      node.weight_quant->positions.push_back(static_cast<float>(code) + kSpread * drawn);
    }
  }
}

void start_within(uint64_t seed, Graph* graph) {
  draw_positions(seed, graph);
  for (const Node& node : graph->nodes) {
    if (!node.weight_quant || std::holds_alternative<Embedding>(node.op)) continue;
    const auto& [spec, codes, positions] = *node.weight_quant;
    std::vector<float>& weights = graph->values[node.inputs[weights_input(node)]].data;
    const size_t part = weights.size() / spec.scale.size();
    constexpr float kFar = 0.5F * kSpread, kInside = 0.001F;
    for (size_t i = 0; i < weights.size(); ++i) {
      const auto code = static_cast<float>(codes[i]);
      const float place = std::clamp(positions[i] - code, codes[i] == spec.lo ? kInside : -kFar,
                                     codes[i] == spec.hi ? -kInside : kFar);
      weights[i] = (code + place) * spec.scale[i / part];
    }
  }
}

// Weights from where training left them. Rows whose sign make_gains_positive has changed since keep
// the sign that they have.
void take_positions(const WeightQuant& trained, size_t rows, std::vector<float>* weights) {
  if (trained.positions.empty()) return;
  const size_t width = weights->size() / rows, part = weights->size() / trained.spec.scale.size();
  std::vector<float> row(width);
  for (size_t begin = 0; begin < weights->size(); begin += width) {
    const auto now = weights->begin() + static_cast<ptrdiff_t>(begin);
    double same = 0.0;
    for (size_t i = 0; i < width; ++i) {
      row[i] = trained.positions[begin + i] * trained.spec.scale[(begin + i) / part];
      same += double{row[i]} * double{now[static_cast<ptrdiff_t>(i)]};
    }
    std::transform(row.begin(), row.end(), now, [&](float w) { return same < 0.0 ? -w : w; });
  }
}

void inherit_steps(const Graph& trained, Graph* graph) {
  // A quantiser's place: the name of the node whose output it reads, empty for the input.
  const auto place = [](const Graph& g, const Node& quantiser) {
    const int p = producer(g, quantiser.inputs[0]);
    return p < 0 ? std::string() : g.nodes[static_cast<size_t>(p)].name;
  };
  std::map<std::pair<std::string, int>, QuantSpec> specs;
  std::map<std::string, const WeightQuant*> weights;
  for (const Node& node : trained.nodes) {
    if (const auto* quant = std::get_if<FakeQuant>(&node.op))
      specs[{place(trained, node), quant->spec.bits}] = quant->spec;
    if (node.weight_quant) weights[node.name] = &*node.weight_quant;
  }
  for (Node& node : graph->nodes) {
    if (auto* quant = std::get_if<FakeQuant>(&node.op)) {
      const auto spec = specs.find({place(*graph, node), quant->spec.bits});
      if (spec != specs.end()) quant->spec = spec->second;
    }
    if (!node.weight_quant) continue;
    const auto same = weights.find(node.name);
    if (same == weights.end()) continue;
    const WeightQuant& old = *same->second;
    Value& value = graph->values[node.inputs[weights_input(node)]];
    take_positions(old, static_cast<size_t>(value.shape[0]), &value.data);
    if (old.spec.bits == node.weight_quant->spec.bits) node.weight_quant->spec = old.spec;
    requantise(value.data, &*node.weight_quant);
  }
}

}  // namespace mpq::convert::train
