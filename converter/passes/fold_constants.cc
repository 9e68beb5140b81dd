// What is already known about the graph without its input: clamps that do nothing or that merge,
// and nodes that only pass their input on.

#include <algorithm>
#include <cmath>
#include <limits>

#include "converter/passes/pass.h"

namespace mpq::convert {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Bounds {
  float lo, hi;
};

// The clamp that a node applies, if it is one.
std::optional<Bounds> clamp_of(const Op& op) {
  if (std::holds_alternative<Relu>(op)) return Bounds{0.0F, kInfinity};
  if (const auto* clip = std::get_if<Clip>(&op)) return Bounds{clip->lo, clip->hi};
  return {};
}

Op make_clamp(const Bounds& bounds) {
  if (bounds.lo == 0.0F && bounds.hi == kInfinity) return Relu{};
  return Clip{.lo = bounds.lo, .hi = bounds.hi};
}

bool does_nothing(const Graph& graph, const Node& node) {
  if (const auto clamp = clamp_of(node.op))
    return clamp->lo == -kInfinity && clamp->hi == kInfinity;
  if (const auto* pool = std::get_if<MaxPool>(&node.op))
    return pool->kernel_h == 1 && pool->kernel_w == 1 && pool->stride_h == 1 && pool->stride_w == 1;
  if (std::holds_alternative<Flatten>(node.op))
    return graph.values[node.inputs[0]].shape.size() == 2;
  return false;
}

void replace_uses(Graph* graph, ValueId from, ValueId to) {
  for (Node& node : graph->nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  std::replace(graph->outputs.begin(), graph->outputs.end(), from, to);
}

}  // namespace

Checked fold_constants(Graph* graph) {
  for (size_t i = 0; i < graph->nodes.size(); ++i) {
    Node& node = graph->nodes[i];
    if (does_nothing(*graph, node)) {
      replace_uses(graph, node.output, node.inputs[0]);
      continue;
    }
    const auto outer = clamp_of(node.op);
    if (!outer) continue;
    node.op = make_clamp(*outer);
    const int before = producer(*graph, node.inputs[0]);
    if (before < 0) continue;
    const Node& inner_node = graph->nodes[static_cast<size_t>(before)];
    const auto inner = clamp_of(inner_node.op);
    if (!inner) continue;
    const auto through = [&](float v) { return std::min(std::max(v, outer->lo), outer->hi); };
    node.op = make_clamp({through(inner->lo), through(inner->hi)});
    node.inputs[0] = inner_node.inputs[0];
  }
  remove_dead(graph);
  return Ok{};
}

}  // namespace mpq::convert
