#include "converter/precision/imported.h"

#include "converter/precision/groups.h"

namespace mpq::convert::precision {

int input_quantiser(const Graph& graph, const Node& node) {
  for (int at = producer(graph, node.inputs[0]); at >= 0;) {
    const Node& before = graph.nodes[static_cast<size_t>(at)];
    if (std::holds_alternative<FakeQuant>(before.op)) return at;
    if (!std::holds_alternative<Flatten>(before.op) &&
        !std::holds_alternative<MaxPool>(before.op) && !std::holds_alternative<Relu>(before.op))
      break;
    at = producer(graph, before.inputs[0]);
  }
  return -1;
}

Result<format::PrecisionMap> imported_map(const Graph& graph) {
  MPQ_TRY(const Selection selection, Selection::of(graph));
  format::PrecisionMap map;
  map.method = "imported";
  map.checkpoint = "trained";
  map.groups.resize(selection.groups.size());
  for (const Layer& layer : selection.layers) {
    const Node& node = graph.nodes[layer.node];
    if (!node.weight_quant)
      return Error{Status::kUnsupported, layer.name + ": its weights have no codes"};
    const int at = input_quantiser(graph, node);
    const int activation =
        at < 0 ? 8 : std::get<FakeQuant>(graph.nodes[static_cast<size_t>(at)].op).spec.bits;
    map.groups[layer.group].fixed = true;
    map.layers.push_back({layer.name, static_cast<uint8_t>(node.weight_quant->spec.bits),
                          static_cast<uint8_t>(activation), layer.group});
  }
  return map;
}

}  // namespace mpq::convert::precision
