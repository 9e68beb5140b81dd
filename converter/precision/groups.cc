#include "converter/precision/groups.h"

#include <map>

namespace mpq::convert::precision {
namespace {

// The tensor whose numbers a layer reads: behind what only reshapes or quantises them.
ValueId source_of(const Graph& graph, ValueId value) {
  for (int index = producer(graph, value); index >= 0; index = producer(graph, value)) {
    const Node& node = graph.nodes[static_cast<size_t>(index)];
    if (!std::holds_alternative<Flatten>(node.op) && !std::holds_alternative<FakeQuant>(node.op))
      break;
    value = node.inputs[0];
  }
  return value;
}

Result<Layer> describe(const Graph& graph, uint32_t index) {
  const Node& node = graph.nodes[index];
  Layer layer{.name = node.name, .node = index};
  uint64_t outputs = 0;
  if (node.inputs.size() < 2 || node.inputs[1] >= graph.values.size() ||
      node.output >= graph.values.size())
    return Error{Status::kCorrupt, node.name + ": has no weights"};
  const Shape& weights = graph.values[node.inputs[1]].shape;
  const Shape& output = graph.values[node.output].shape;
  if (weights.size() < 2 || !checked_elements(weights, &layer.weights) || layer.weights == 0 ||
      output.size() < 2 || !checked_elements(output, &outputs) || outputs == 0)
    return Error{Status::kCorrupt, node.name + ": weights " + to_string(weights) + ", output " +
                                       to_string(output) + ": shapes are not known"};
  layer.channels = static_cast<uint32_t>(weights[0]);
  layer.macs = outputs / static_cast<uint64_t>(output[0]) * (layer.weights / layer.channels);
  return layer;
}

uint32_t find(std::vector<uint32_t>& parent, uint32_t i) {
  while (parent[i] != i) i = parent[i] = parent[parent[i]];
  return i;
}

// The layers whose group is no matter of choice: the first and the last one; in a network of
// sequences, whose first layers are like all others, those of the head, behind the last
// normalisation.
std::vector<uint32_t> fixed_layers(const Graph& graph, const std::vector<Layer>& layers) {
  if (layers.empty()) return {};
  const auto last = static_cast<uint32_t>(layers.size() - 1);
  if (graph.sequence_length == 0) return {0, last};
  uint32_t normalised = 0;
  for (uint32_t i = 0; i < graph.nodes.size(); ++i)
    if (std::holds_alternative<LayerNorm>(graph.nodes[i].op)) normalised = i;
  std::vector<uint32_t> fixed;
  for (uint32_t i = 0; i <= last; ++i)
    if (layers[i].node > normalised) fixed.push_back(i);
  return fixed;
}

}  // namespace

Result<Selection> Selection::of(const Graph& graph) {
  Selection selection;
  std::map<ValueId, uint32_t> first_reader;
  std::vector<uint32_t> parent;
  for (uint32_t i = 0; i < graph.nodes.size(); ++i) {
    const Op& op = graph.nodes[i].op;
    if (!std::holds_alternative<Conv>(op) && !std::holds_alternative<Linear>(op)) continue;
    MPQ_TRY(Layer layer, describe(graph, i));
    const auto self = static_cast<uint32_t>(selection.layers.size());
    selection.layers.push_back(std::move(layer));
    parent.push_back(self);
    const auto [reader, is_first] =
        first_reader.emplace(source_of(graph, graph.nodes[i].inputs[0]), self);
    if (!is_first) parent[find(parent, self)] = find(parent, reader->second);
  }
  std::map<uint32_t, uint32_t> group_of_root;
  for (uint32_t i = 0; i < selection.layers.size(); ++i) {
    const auto [entry, is_new] =
        group_of_root.emplace(find(parent, i), static_cast<uint32_t>(selection.groups.size()));
    if (is_new) selection.groups.emplace_back();
    selection.layers[i].group = entry->second;
    selection.groups[entry->second].layers.push_back(i);
  }
  for (const uint32_t layer : fixed_layers(graph, selection.layers))
    selection.groups[selection.layers[layer].group].fixed = true;
  return selection;
}

size_t Selection::selectable_groups() const {
  size_t count = 0;
  for (const Group& group : groups) count += group.fixed ? 0 : 1;
  return count;
}

size_t Selection::selectable_layers() const {
  size_t count = 0;
  for (const Group& group : groups) count += group.fixed ? 0 : group.layers.size();
  return count;
}

}  // namespace mpq::convert::precision
