#include "runtime/rows.h"

#include <algorithm>

namespace mpq::runtime {

std::vector<Rows> rows_of(const format::Model& model) {
  const bool tokens = model.sequence_length != 0;
  std::vector<Rows> rows(model.tensors.size(), tokens ? Rows::kTokens : Rows::kSequences);
  if (!tokens) return rows;
  for (const format::Node& node : model.nodes) {
    // The format has checked that the operands of a node agree.
    const bool pools = node.op() == format::OpCode::kSequencePool;
    const Rows of_node = pools ? Rows::kSequences : rows[node.inputs[0]];
    for (const format::TensorId id : node.outputs)
      if (id != format::kNoTensor) rows[id] = of_node;
  }
  return rows;
}

const format::Node* embedding_of(const format::Model& model) {
  const auto found = std::ranges::find(model.nodes, format::OpCode::kEmbedding, &format::Node::op);
  return found == model.nodes.end() ? nullptr : &*found;
}

}  // namespace mpq::runtime
