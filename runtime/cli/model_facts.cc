#include "runtime/cli/model_facts.h"

namespace mpq::cli {

std::string bits_text(uint32_t weight_bits, uint32_t input_bits) {
  return "w" + std::to_string(weight_bits) + "a" + std::to_string(input_bits);
}

ModelFacts facts_of(const Model& model) {
  ModelFacts facts;
  for (const mpq_node_info& node : model.nodes()) {
    if (node.weight_bits == 0) continue;
    BitsShare& share = facts.bits[bits_text(node.weight_bits, node.input_bits)];
    share.layers += 1;
    share.weights += node.weights;
    share.macs += node.macs;
    facts.layers += 1;
    facts.weights += node.weights;
    facts.macs += node.macs;
  }
  return facts;
}

Json model_json(const Model& model) {
  const ModelFacts facts = facts_of(model);
  Json histogram = Json::object();
  for (const auto& [bits, share] : facts.bits)
    histogram[bits] = {{"layers", share.layers}, {"weights", share.weights}, {"macs", share.macs}};
  return {{"name", mpq_model_name(model.get())},
          {"path", model.path()},
          {"sha256", model.sha256()},
          {"bytes", mpq_model_bytes(model.get())},
          {"parameters", facts.weights},
          {"macs", facts.macs},
          {"bits", std::move(histogram)}};
}

}  // namespace mpq::cli
