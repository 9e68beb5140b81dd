#include "converter/train/blocks.h"

#include <map>

namespace mpq::convert::train {

std::vector<Block> blocks_of(const Graph& graph) {
  std::map<ValueId, size_t> last_use;
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    for (const ValueId id : activations(graph.nodes[i])) last_use[id] = i;
  const auto only_quantised = [&](ValueId id) {
    for (const uint32_t reader : consumers(graph, id))
      if (!std::holds_alternative<FakeQuant>(graph.nodes[reader].op)) return false;
    return true;
  };
  std::vector<Block> blocks;
  Block open{0, 0, 0, graph.inputs[0], kNoValue};
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    open.layers += node.weight_quant ? 1 : 0;
    size_t live = 0;
    for (const auto& [id, last] : last_use) {
      const int from = producer(graph, id);
      live += from <= static_cast<int>(i) && last > i && id != node.output ? 1 : 0;
    }
    const bool at_end = i + 1 == graph.nodes.size();
    const bool cut = live == 0 && open.layers > 0 && only_quantised(node.output) &&
                     !std::holds_alternative<FakeQuant>(node.op);
    if (!cut && !at_end) continue;
    open.end = i + 1;
    open.output = node.output;
    blocks.push_back(open);
    open = {i + 1, 0, 0, node.output, kNoValue};
  }
  return blocks;
}

Result<ValueId> real_value(const Graph& real, const Graph& graph, ValueId id) {
  const int from = producer(graph, id);
  if (from < 0) return real.inputs[0];
  const std::string& name = graph.nodes[static_cast<size_t>(from)].name;
  for (const Node& node : real.nodes)
    if (node.name == name) return node.output;
  return Error{Status::kNotFound, "the float network has no node '" + name + "'"};
}

}  // namespace mpq::convert::train
