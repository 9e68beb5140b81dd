#include "runtime/graph_info.h"

#include <limits>

namespace mpq::runtime {
namespace {

// Null when the node has no weights.
const format::Tensor* weights_of(const format::Model& model, const format::Node& node) {
  const bool has = node.op() == format::OpCode::kConv2d || node.op() == format::OpCode::kLinear;
  return has ? &model.tensors[node.inputs[format::kWeights]] : nullptr;
}

}  // namespace

uint64_t weight_count(const format::Model& model, const format::Node& node) {
  uint64_t count = 0;
  const format::Tensor* weights = weights_of(model, node);
  return weights != nullptr && checked_elements(weights->shape, &count) ? count : 0;
}

uint32_t weight_bits(const format::Model& model, const format::Node& node) {
  const format::Tensor* weights = weights_of(model, node);
  return weights != nullptr ? static_cast<uint32_t>(bits_of(weights->dtype)) : 0;
}

uint64_t node_macs(const format::Model& model, const format::Node& node) {
  const format::Tensor* weights = weights_of(model, node);
  if (weights == nullptr) return 0;
  // Every output element is a sum over all weights of its channel.
  uint64_t outputs = 0, macs = 0;
  const uint64_t per_output = weight_count(model, node) / static_cast<uint64_t>(weights->shape[0]);
  if (!checked_elements(model.tensors[node.outputs[0]].shape, &outputs) ||
      __builtin_mul_overflow(outputs, per_output, &macs))
    return std::numeric_limits<uint64_t>::max();
  return macs;
}

}  // namespace mpq::runtime
