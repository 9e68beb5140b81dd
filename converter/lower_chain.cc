#include <algorithm>
#include <optional>

#include "converter/lower_internal.h"

namespace mpq::convert::lowering {
namespace {

Error unsupported(const Node& node, const std::string& why) {
  return {Status::kUnsupported, node.name + " (" + op_name(node.op) + "): " + why};
}

// The range of an inner clip seen through an outer one.
void add_clip(Chain* chain, double lo, double hi) {
  const double inner_lo = std::min(std::max(lo, chain->lo), chain->hi);
  const double inner_hi = std::max(std::min(hi, chain->hi), chain->lo);
  chain->lo = inner_lo;
  chain->hi = inner_hi;
}

// Null when the operator is no activation function.
std::optional<format::Activation> activation_of(const Op& op) {
  if (std::holds_alternative<Tanh>(op)) return format::Activation::kTanh;
  const auto* const gelu = std::get_if<Gelu>(&op);
  if (gelu == nullptr) return std::nullopt;
  return gelu->tanh ? format::Activation::kGeluTanh : format::Activation::kGelu;
}

// Rows that have no codes of their own: emitted as f32.
bool is_rows(const Op& op) {
  return std::holds_alternative<Embedding>(op) || std::holds_alternative<LayerNorm>(op) ||
         std::holds_alternative<SequencePool>(op);
}

Checked check_activation(const Node& node, const Chain& chain) {
  if (chain.activation == format::Activation::kNone) return Ok{};
  return unsupported(node,
                     "cannot have an activation function behind it; put a FakeQuant between "
                     "them");
}

}  // namespace

Checked check_flatten(const Graph& graph, const Node& node) {
  const Shape& shape = graph.values[node.inputs[0]].shape;
  for (size_t i = 2; i < shape.size(); ++i)
    if (shape[i] != 1)
      return unsupported(node, "flattens " + to_string(shape) +
                                   ", only 1x1 planes can be; write the linear "
                                   "layer behind it as a convolution over the whole plane");
  return Ok{};
}

Result<Chain> trace_chain(const Graph& graph, ValueId value) {
  Chain chain;
  const bool of_codes = is_codes(graph, value);
  for (ValueId at = value;;) {
    const int p = producer(graph, at);
    if (p < 0 || is_codes(graph, at) || is_rows(graph.nodes[static_cast<size_t>(p)].op)) {
      if (p >= 0) MPQ_CHECK(check_activation(graph.nodes[static_cast<size_t>(p)], chain));
      if (chain.residual != kNoValue)
        return Error{Status::kInternal, graph.values[at].name + ": a residual of a value"};
      chain.value = at;
      return chain;
    }
    const Node& node = graph.nodes[static_cast<size_t>(p)];
    if (at != value && consumers(graph, at).size() != 1)
      return unsupported(node, "its output is read by " +
                                   std::to_string(consumers(graph, at).size()) +
                                   " nodes before it is quantised; put a FakeQuant behind it");
    if (const auto function = activation_of(node.op)) {
      MPQ_CHECK(check_activation(node, chain));
      if (chain.residual != kNoValue)
        return unsupported(node, "cannot be fused before an Add; put a FakeQuant between them");
      chain.activation = *function;
      at = node.inputs[0];
    } else if (std::holds_alternative<Relu>(node.op) || std::holds_alternative<Clip>(node.op)) {
      if (chain.residual != kNoValue)
        return unsupported(node,
                           "an activation between a sum and its Add cannot be fused; put a "
                           "FakeQuant between them");
      MPQ_CHECK(check_activation(node, chain));
      const auto* clip = std::get_if<Clip>(&node.op);
      if (clip != nullptr && clip->lo > clip->hi) return unsupported(node, "clip range is empty");
      add_clip(&chain, clip == nullptr ? 0.0 : clip->lo,
               clip == nullptr ? std::numeric_limits<double>::infinity() : clip->hi);
      at = node.inputs[0];
    } else if (std::holds_alternative<Flatten>(node.op)) {
      MPQ_CHECK(check_flatten(graph, node));
      at = node.inputs[0];
    } else if (std::holds_alternative<Add>(node.op)) {
      const bool a = is_codes(graph, node.inputs[0]);
      const bool b = is_codes(graph, node.inputs[1]);
      if (chain.residual != kNoValue)
        return unsupported(node, "two Adds in a row; put a FakeQuant between them");
      if (a && b) {
        MPQ_CHECK(check_activation(node, chain));
        chain.base = &node;
        return chain;
      }
      if (!a && !b)
        return unsupported(node, "neither input is quantised; put a FakeQuant behind one of them");
      chain.residual = node.inputs[a ? 0 : 1];
      at = node.inputs[a ? 1 : 0];
    } else if (std::holds_alternative<Conv>(node.op) || std::holds_alternative<Linear>(node.op)) {
      chain.base = &node;
      return chain;
    } else if (std::holds_alternative<AvgPool>(node.op)) {
      MPQ_CHECK(check_activation(node, chain));
      if (chain.residual != kNoValue)
        return unsupported(node, "an Add cannot be fused; put a FakeQuant behind the pool");
      chain.base = &node;
      return chain;
    } else if (std::holds_alternative<BatchNorm>(node.op)) {
      return unsupported(node, "not folded into a convolution; run fold_bn, or fold it by hand");
    } else {
      return unsupported(node, of_codes ? "cannot be read as codes"
                                        : "reads values that are not quantised; put a FakeQuant "
                                          "before it");
    }
  }
}

}  // namespace mpq::convert::lowering
