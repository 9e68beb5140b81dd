#include "format/model.h"

#include <algorithm>

namespace mpq::format {

static_assert(std::variant_size_v<Attrs> == kOpCodeCount);

const char* to_string(OpCode op) {
  constexpr const char* kNames[kOpCodeCount] = {
      "image_quantize", "quantize",   "conv2d",    "linear",       "max_pool", "avg_pool", "add",
      "embedding",      "layer_norm", "attention", "sequence_pool"};
  const auto i = static_cast<int>(op);
  return i < kOpCodeCount ? kNames[i] : "unknown operator";
}

const Node* embedding_of(const Model& model) {
  const auto found = std::ranges::find(model.nodes, OpCode::kEmbedding, &Node::op);
  return found == model.nodes.end() ? nullptr : &*found;
}

std::vector<bool> pooled_tensors(const Model& model) {
  std::vector<bool> pooled(model.tensors.size());
  for (const Node& node : model.nodes)
    for (const TensorId id : node.outputs)
      if (id != kNoTensor)
        pooled[id] = node.op() == OpCode::kSequencePool || pooled[node.inputs[0]];
  return pooled;
}

const Requant* requant_of(const Attrs& attrs) {
  if (const auto* conv = std::get_if<Conv2dAttrs>(&attrs)) return &conv->requant;
  if (const auto* linear = std::get_if<LinearAttrs>(&attrs)) return &linear->requant;
  return nullptr;
}

}  // namespace mpq::format
