#include <algorithm>
#include <cmath>

#include "converter/lower_internal.h"

namespace mpq::convert::lowering {
namespace {

const FakeQuant* as_fake_quant(const Graph& graph, ValueId value) {
  const int p = producer(graph, value);
  return p < 0 ? nullptr : std::get_if<FakeQuant>(&graph.nodes[static_cast<size_t>(p)].op);
}

void redirect(Graph* graph, ValueId from, ValueId to) {
  for (Node& node : graph->nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  std::replace(graph->outputs.begin(), graph->outputs.end(), from, to);
}

bool is_output(const Graph& graph, ValueId value) {
  return std::find(graph.outputs.begin(), graph.outputs.end(), value) != graph.outputs.end();
}

// Node i is a MaxPool of a value that has no codes and is read by FakeQuant nodes only: one
// FakeQuant + MaxPool pair for each of them.
bool hoist_over_pool(Graph* graph, size_t i) {
  const Node pool = graph->nodes[i];
  if (!std::holds_alternative<MaxPool>(pool.op) || is_codes(*graph, pool.inputs[0])) return false;
  const std::vector<uint32_t> readers = consumers(*graph, pool.output);
  if (readers.empty() || is_output(*graph, pool.output)) return false;
  for (const uint32_t r : readers)
    if (!std::holds_alternative<FakeQuant>(graph->nodes[r].op)) return false;

  std::vector<Node> pairs;
  std::vector<Node> quants;
  for (const uint32_t r : readers) quants.push_back(graph->nodes[r]);
  for (const Node& quant : quants) {
    Value codes = graph->values[pool.inputs[0]];
    codes.name = graph->values[quant.output].name + ".before_" + pool.name;
    const ValueId value = graph->add_value(std::move(codes));
    pairs.push_back({quant.name, quant.op, {pool.inputs[0]}, value, {}});
    const std::string suffix = &quant == quants.data() ? "" : "." + quant.name;
    pairs.push_back({pool.name + suffix, pool.op, {value}, quant.output, {}});
  }
  for (auto r = readers.rbegin(); r != readers.rend(); ++r)
    graph->nodes.erase(graph->nodes.begin() + static_cast<ptrdiff_t>(*r));
  const auto at = graph->nodes.erase(graph->nodes.begin() + static_cast<ptrdiff_t>(i));
  graph->nodes.insert(at, pairs.begin(), pairs.end());
  return true;
}

// Node i changes no code: its readers may read its input.
bool is_identity(const Graph& graph, const Node& node) {
  const FakeQuant* before = as_fake_quant(graph, node.inputs[0]);
  if (before == nullptr) return false;
  if (const auto* same = std::get_if<FakeQuant>(&node.op))
    return same_grid(same->spec, before->spec);
  return std::holds_alternative<Relu>(node.op) && before->spec.lo >= before->spec.zero_point;
}

}  // namespace

bool same_grid(const QuantSpec& a, const QuantSpec& b) {
  return a.bits == b.bits && a.is_signed == b.is_signed && a.scale == b.scale &&
         a.zero_point == b.zero_point && a.lo == b.lo && a.hi == b.hi;
}

void normalise(Graph* graph) {
  for (size_t i = 0; i < graph->nodes.size(); ++i) {
    if (hoist_over_pool(graph, i)) continue;
    const Node& node = graph->nodes[i];
    if (node.inputs.empty() || !is_identity(*graph, node)) continue;
    const ValueId from = node.output;
    const ValueId to = node.inputs[0];
    graph->nodes.erase(graph->nodes.begin() + static_cast<ptrdiff_t>(i--));
    redirect(graph, from, to);
  }
}

bool is_codes(const Graph& graph, ValueId value) {
  const int p = producer(graph, value);
  if (p < 0) return false;
  const Node& node = graph.nodes[static_cast<size_t>(p)];
  if (std::holds_alternative<FakeQuant>(node.op)) return true;
  if (std::holds_alternative<MaxPool>(node.op) || std::holds_alternative<Flatten>(node.op))
    return is_codes(graph, node.inputs[0]);
  return false;
}

Result<Grid> activation_grid(const Node& fake_quant) {
  const QuantSpec& q = std::get<FakeQuant>(fake_quant.op).spec;
  const auto bad = [&](const std::string& why) {
    return Error{Status::kUnsupported, fake_quant.name + ": " + why};
  };
  if (q.bits != 8 && q.bits != 4 && q.bits != 2)
    return bad("activation bits " + std::to_string(q.bits) +
               " not in {2,4,8}; requantise the tensor");
  if (q.scale.size() != 1)
    return bad("activation has " + std::to_string(q.scale.size()) +
               " scales, one is possible; use per-tensor quantisation for activations");
  if (!(q.scale[0] > 0.0F) || !std::isfinite(q.scale[0]))
    return bad("activation scale " + std::to_string(q.scale[0]) + " is not a positive number");
  const int32_t shift = q.is_signed ? 1 << (q.bits - 1) : 0;
  const int32_t top = (1 << q.bits) - 1;
  const Grid grid{unsigned_code(q.bits), q.scale[0], q.zero_point + shift, q.lo + shift,
                  q.hi + shift};
  if (grid.lo < 0 || grid.hi > top || grid.lo > grid.hi)
    return bad("codes " + std::to_string(q.lo) + ".." + std::to_string(q.hi) + " do not fit " +
               std::to_string(q.bits) + " bits");
  if (grid.zero_point < grid.lo || grid.zero_point > grid.hi)
    return bad("zero point " + std::to_string(q.zero_point) + " is outside the codes " +
               std::to_string(q.lo) + ".." + std::to_string(q.hi) +
               "; widen the range so that it contains real 0");
  return grid;
}

}  // namespace mpq::convert::lowering
