#include "converter/passes/insert_quantizers.h"

#include <set>
#include <string>

namespace mpq::convert {
namespace {

std::string unused_name(std::set<std::string>* names, const std::string& stem) {
  std::string name = stem;
  for (int i = 2; !names->insert(name).second; ++i) name = stem + "_" + std::to_string(i);
  return name;
}

}  // namespace

void insert_quantizers(Graph* graph, const std::map<GridKey, QuantSpec>& grids,
                       const std::vector<CodeReader>& readers) {
  std::set<std::string> names;
  for (const Node& node : graph->nodes) names.insert(node.name);
  for (const Value& value : graph->values) names.insert(value.name);
  std::map<GridKey, ValueId> codes;
  std::map<ValueId, std::vector<Node>> after;  // by the value that they read
  for (const auto& [key, spec] : grids) {
    Value value = graph->values[key.first];
    value.name = unused_name(&names, value.name + ".q" + std::to_string(key.second));
    const std::string name = value.name;
    codes[key] = graph->add_value(std::move(value));
    after[key.first].push_back({name, FakeQuant{spec}, {key.first}, codes[key], {}});
  }
  for (const CodeReader& reader : readers)
    graph->nodes[reader.node].inputs[reader.input] = codes.at(reader.key);
  std::vector<Node> nodes;
  const auto append_quantizers_of = [&](ValueId value) {
    for (Node& quant : after[value]) nodes.push_back(std::move(quant));
  };
  for (const ValueId input : graph->inputs) append_quantizers_of(input);
  for (Node& node : graph->nodes) {
    const ValueId output = node.output;
    nodes.push_back(std::move(node));
    append_quantizers_of(output);
  }
  graph->nodes = std::move(nodes);
}

}  // namespace mpq::convert
