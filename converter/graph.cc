#include "converter/graph.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace mpq::convert {
namespace {

struct OpInfo {
  const char* name;
  size_t min_inputs, max_inputs;
  size_t activations = 1;  // leading inputs that are no parameters
  size_t optional = 0;     // an input that may be absent, besides those behind min_inputs
};

// In the order of the Op variant.
constexpr OpInfo kOps[] = {
    {"conv", 2, 3},    {"linear", 2, 3},     {"batch_norm", 5, 5},      {"relu", 1, 1},
    {"clip", 1, 1},    {"add", 2, 2, 2},     {"max_pool", 1, 1},        {"avg_pool", 1, 1},
    {"flatten", 1, 1}, {"fake_quant", 1, 1}, {"embedding", 4, 5, 2, 1}, {"layer_norm", 3, 3},
    {"gelu", 1, 1},    {"tanh", 1, 1},       {"attention", 3, 4, 3},    {"sequence_pool", 1, 1},
};
static_assert(std::size(kOps) == std::variant_size_v<Op>, "one row per operator");

const OpInfo& info_of(const Node& node) { return kOps[node.op.index()]; }

Error fail(const Node& node, const std::string& what) {
  return Error{Status::kInvalidArgument,
               std::string(op_name(node.op)) + " '" + node.name + "': " + what};
}

// Output length of a sliding window, or an error when the window does not fit.
Result<int64_t> window(const Node& node, int64_t in, uint64_t kernel, uint64_t stride,
                       uint64_t dilation, uint64_t pad_before, uint64_t pad_after) {
  constexpr uint64_t kMax = 1U << 15;
  if (kernel == 0 || stride == 0 || dilation == 0 || kernel > kMax || stride > kMax ||
      dilation > kMax || pad_before > kMax || pad_after > kMax)
    return fail(node, "kernel, stride, dilation must be in 1..32768 and padding at most 32768");
  const auto extent = static_cast<int64_t>((kernel - 1) * dilation + 1);
  const int64_t padded = in + static_cast<int64_t>(pad_before + pad_after);
  if (padded < extent)
    return fail(node, "a window of " + std::to_string(extent) + " does not fit in " +
                          std::to_string(padded));
  return (padded - extent) / static_cast<int64_t>(stride) + 1;
}

struct ShapeOf {
  const Graph& graph;
  const Node& node;

  const Shape& in(size_t i) const { return graph.values[node.inputs[i]].shape; }
  bool has(size_t i) const { return i < node.inputs.size() && node.inputs[i] != kNoValue; }
  Checked rank(size_t i, size_t want) const {
    if (in(i).size() == want) return Ok{};
    return fail(node, "input " + std::to_string(i) + " has shape " + to_string(in(i)) +
                          ", expected rank " + std::to_string(want));
  }
  Checked per_channel(size_t i, int64_t channels) const {
    if (!has(i) || in(i) == Shape{channels}) return Ok{};
    return fail(node, "input " + std::to_string(i) + " has shape " + to_string(in(i)) +
                          ", expected " + std::to_string(channels) + " values");
  }

  Result<Shape> operator()(const Conv& op) const {
    MPQ_CHECK(rank(0, 4));
    MPQ_CHECK(rank(1, 4));
    const Shape &x = in(0), &w = in(1);
    const int64_t groups = op.groups;
    if (groups == 0 || x[1] % groups != 0 || w[0] % groups != 0 || w[1] != x[1] / groups)
      return fail(node, "weights " + to_string(w) + " do not fit input " + to_string(x) + " with " +
                            std::to_string(groups) + " groups");
    MPQ_CHECK(per_channel(2, w[0]));
    MPQ_TRY(const int64_t h, window(node, x[2], static_cast<uint64_t>(w[2]), op.stride_h,
                                    op.dilation_h, op.pad_top, op.pad_bottom));
    MPQ_TRY(const int64_t v, window(node, x[3], static_cast<uint64_t>(w[3]), op.stride_w,
                                    op.dilation_w, op.pad_left, op.pad_right));
    return Shape{x[0], w[0], h, v};
  }
  Result<Shape> operator()(const Linear&) const {
    MPQ_CHECK(rank(0, 2));
    MPQ_CHECK(rank(1, 2));
    const Shape &x = in(0), &w = in(1);
    if (x[1] != w[1])
      return fail(node, "weights " + to_string(w) + " do not fit input " + to_string(x));
    MPQ_CHECK(per_channel(2, w[0]));
    return Shape{x[0], w[0]};
  }
  Result<Shape> operator()(const BatchNorm&) const {
    if (in(0).size() < 2)
      return fail(node, "input has shape " + to_string(in(0)) + ", expected channels");
    for (size_t i = 1; i < 5; ++i) MPQ_CHECK(per_channel(i, in(0)[1]));
    return in(0);
  }
  Result<Shape> operator()(const Add&) const {
    if (in(0) != in(1))
      return fail(node, "shapes " + to_string(in(0)) + " and " + to_string(in(1)) + " differ");
    return in(0);
  }
  Result<Shape> operator()(const MaxPool& op) const {
    MPQ_CHECK(rank(0, 4));
    const Shape& x = in(0);
    if (op.pad_top >= op.kernel_h || op.pad_bottom >= op.kernel_h || op.pad_left >= op.kernel_w ||
        op.pad_right >= op.kernel_w)
      return fail(node, "padding is not smaller than the window");
    MPQ_TRY(const int64_t h,
            window(node, x[2], op.kernel_h, op.stride_h, 1, op.pad_top, op.pad_bottom));
    MPQ_TRY(const int64_t v,
            window(node, x[3], op.kernel_w, op.stride_w, 1, op.pad_left, op.pad_right));
    return Shape{x[0], x[1], h, v};
  }
  Result<Shape> operator()(const AvgPool& op) const {
    MPQ_CHECK(rank(0, 4));
    const Shape& x = in(0);
    if (op.kernel_h == 0 && op.kernel_w == 0) return Shape{x[0], x[1], 1, 1};
    MPQ_TRY(const int64_t h, window(node, x[2], op.kernel_h, op.stride_h, 1, 0, 0));
    MPQ_TRY(const int64_t v, window(node, x[3], op.kernel_w, op.stride_w, 1, 0, 0));
    return Shape{x[0], x[1], h, v};
  }
  Result<Shape> operator()(const Flatten&) const {
    if (in(0).empty()) return fail(node, "input is a scalar");
    int64_t rest = 1;
    for (size_t i = 1; i < in(0).size(); ++i) rest *= in(0)[i];
    return Shape{in(0)[0], rest};
  }
  Result<Shape> operator()(const Relu&) const { return in(0); }
  Result<Shape> operator()(const Clip&) const { return in(0); }
  Result<Shape> operator()(const FakeQuant&) const { return in(0); }

  Result<Shape> operator()(const Embedding& op) const {
    for (const size_t i : {2, 3}) MPQ_CHECK(rank(i, 2));
    const Shape &words = in(2), &positions = in(3);
    for (const size_t i : {0, 1})
      if (has(i) && in(i) != Shape{1})
        return fail(node, "input " + std::to_string(i) + " has shape " + to_string(in(i)) +
                              ", expected (1), an index a token");
    if (has(1) != has(4)) return fail(node, "token types and their rows come together");
    if (positions[1] != words[1] || (has(4) && (in(4).size() != 2 || in(4)[1] != words[1])))
      return fail(node, "words " + to_string(words) + ", positions " + to_string(positions) +
                            (has(4) ? ", types " + to_string(in(4)) : "") +
                            ": rows of different width");
    if (positions[0] < int64_t{op.first_position} + graph.sequence_length)
      return fail(node, std::to_string(positions[0]) + " positions, sequences of " +
                            std::to_string(graph.sequence_length) + " tokens from position " +
                            std::to_string(op.first_position));
    return Shape{1, words[1]};
  }
  Result<Shape> operator()(const LayerNorm& op) const {
    MPQ_CHECK(rank(0, 2));
    for (const size_t i : {1, 2}) MPQ_CHECK(per_channel(i, in(0)[1]));
    if (!(op.epsilon >= 0.0F)) return fail(node, "epsilon is negative");
    return in(0);
  }
  Result<Shape> operator()(const Gelu&) const { return in(0); }
  Result<Shape> operator()(const Tanh&) const { return in(0); }
  Result<Shape> operator()(const Attention& op) const {
    MPQ_CHECK(rank(0, 2));
    if (in(1) != in(0) || in(2) != in(0))
      return fail(node, "shapes " + to_string(in(0)) + ", " + to_string(in(1)) + ", " +
                            to_string(in(2)) + " of query, key, value differ");
    if (op.heads == 0 || in(0)[1] % op.heads != 0)
      return fail(node, std::to_string(op.heads) + " heads do not divide " +
                            std::to_string(in(0)[1]) + " columns");
    const Shape bias{op.heads, 2 * int64_t{graph.sequence_length} - 1};
    if (has(3) && in(3) != bias)
      return fail(node,
                  "relative bias has shape " + to_string(in(3)) + ", expected " + to_string(bias));
    return in(0);
  }
  Result<Shape> operator()(const SequencePool&) const {
    MPQ_CHECK(rank(0, 2));
    return in(0);
  }
};

bool is_sequence_op(const Op& op) {
  return std::holds_alternative<Embedding>(op) || std::holds_alternative<Attention>(op) ||
         std::holds_alternative<SequencePool>(op);
}

Checked check_spec(const Node& node, const QuantSpec& spec, size_t channels) {
  if (spec.bits != 8 && spec.bits != 4 && spec.bits != 2)
    return fail(node, "bits " + std::to_string(spec.bits) + " not in {2, 4, 8}");
  if (spec.scale.size() != 1 && spec.scale.size() != channels)
    return fail(node, std::to_string(spec.scale.size()) + " scales, expected 1 or " +
                          std::to_string(channels));
  for (const float scale : spec.scale)
    if (!std::isfinite(scale) || scale <= 0.0F)
      return fail(node, "a scale is not positive and finite");
  const int32_t lowest = spec.is_signed ? -(1 << (spec.bits - 1)) : 0;
  const int32_t highest = lowest + (1 << spec.bits) - 1;
  if (spec.lo < lowest || spec.hi > highest || spec.lo >= spec.hi)
    return fail(node, "codes " + std::to_string(spec.lo) + ".." + std::to_string(spec.hi) +
                          " not within " + std::to_string(lowest) + ".." + std::to_string(highest));
  if (spec.zero_point < lowest || spec.zero_point > highest)
    return fail(node, "zero point " + std::to_string(spec.zero_point) + " not within the codes");
  return Ok{};
}

// One scale, or a scale for each of equal parts of a row.
Checked check_fake_quant(const Node& node, const QuantSpec& spec, const Shape& shape) {
  const size_t parts = spec.scale.size();
  if (parts > 1 && (shape.size() != 2 || shape[1] % static_cast<int64_t>(parts) != 0))
    return fail(node, std::to_string(parts) + " scales for shape " + to_string(shape));
  return check_spec(node, spec, parts);
}

Checked check_weight_quant(const Graph& graph, const Node& node) {
  if (!node.weight_quant) return Ok{};
  if (weights_input(node) == 0)
    return fail(node, "only conv, linear and embedding have weight codes");
  const Value& weights = graph.values[node.inputs[weights_input(node)]];
  const WeightQuant& quant = *node.weight_quant;
  MPQ_CHECK(check_spec(node, quant.spec, static_cast<size_t>(weights.shape[0])));
  if (!quant.spec.is_signed || quant.spec.zero_point != 0)
    return fail(node, "weight codes must be signed with zero point 0");
  uint64_t elements = 0;
  if (!checked_elements(weights.shape, &elements) || quant.codes.size() != elements)
    return fail(node, std::to_string(quant.codes.size()) + " weight codes for weights " +
                          to_string(weights.shape));
  if (!quant.positions.empty() && quant.positions.size() != elements)
    return fail(node, std::to_string(quant.positions.size()) + " positions of " +
                          std::to_string(elements) + " weights");
  for (const int8_t code : quant.codes)
    if (code < quant.spec.lo || code > quant.spec.hi)
      return fail(node, "weight code " + std::to_string(code) + " is out of range");
  return Ok{};
}

Checked check_value(const Value& value) {
  uint64_t elements = 0;
  if (!checked_elements(value.shape, &elements))
    return Error{Status::kInvalidArgument,
                 "value '" + value.name + "': bad shape " + to_string(value.shape)};
  if (value.is_constant && value.data.size() != elements)
    return Error{Status::kInvalidArgument, "value '" + value.name +
                                               "': " + std::to_string(value.data.size()) +
                                               " elements for shape " + to_string(value.shape)};
  return Ok{};
}

}  // namespace

int producer(const Graph& graph, ValueId value) {
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (graph.nodes[i].output == value) return static_cast<int>(i);
  return -1;
}

std::vector<uint32_t> consumers(const Graph& graph, ValueId value) {
  std::vector<uint32_t> result;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const std::vector<ValueId>& inputs = graph.nodes[i].inputs;
    if (std::find(inputs.begin(), inputs.end(), value) != inputs.end())
      result.push_back(static_cast<uint32_t>(i));
  }
  return result;
}

std::vector<ValueId> activations(const Node& node) {
  std::vector<ValueId> result;
  for (size_t i = 0; i < std::min(info_of(node).activations, node.inputs.size()); ++i)
    if (node.inputs[i] != kNoValue) result.push_back(node.inputs[i]);
  return result;
}

size_t weights_input(const Node& node) {
  if (std::holds_alternative<Embedding>(node.op)) return 2;
  return std::holds_alternative<Conv>(node.op) || std::holds_alternative<Linear>(node.op) ? 1 : 0;
}

std::vector<float> real_weights(const Graph& graph, const Node& node) {
  const Value& weights = graph.values[node.inputs[weights_input(node)]];
  if (!node.weight_quant) return weights.data;
  const WeightQuant& quant = *node.weight_quant;
  const size_t per_channel = quant.codes.size() / static_cast<size_t>(weights.shape[0]);
  std::vector<float> real(quant.codes.size());
  for (size_t i = 0; i < real.size(); ++i) {
    const size_t channel = quant.spec.scale.size() == 1 ? 0 : i / per_channel;
    real[i] = static_cast<float>(quant.codes[i]) * quant.spec.scale[channel];
  }
  return real;
}

const char* op_name(const Op& op) { return kOps[op.index()].name; }

std::string print(const Graph& graph) {
  const auto describe = [&](ValueId id) {
    if (id == kNoValue) return std::string("-");
    const Value& value = graph.values[id];
    return (value.is_constant ? "const " : "") + value.name + ":" + to_string(value.shape);
  };
  const auto describe_spec = [](const QuantSpec& spec) {
    std::string text = (spec.is_signed ? " s" : " u") + std::to_string(spec.bits);
    text += spec.scale.size() == 1 ? " scale " + std::to_string(spec.scale[0])
                                   : " " + std::to_string(spec.scale.size()) + " scales";
    if (spec.zero_point != 0) text += " zero_point " + std::to_string(spec.zero_point);
    return text + " codes " + std::to_string(spec.lo) + ".." + std::to_string(spec.hi);
  };
  std::string text = "graph '" + graph.name + "'\n";
  for (const ValueId id : graph.inputs) text += "input " + describe(id) + "\n";
  for (const Node& node : graph.nodes) {
    text += std::string(op_name(node.op)) + " '" + node.name + "' (";
    for (size_t i = 0; i < node.inputs.size(); ++i)
      text += (i == 0 ? "" : ", ") + describe(node.inputs[i]);
    text += ") -> " + describe(node.output);
    if (const auto* quant = std::get_if<FakeQuant>(&node.op)) text += describe_spec(quant->spec);
    if (node.weight_quant) text += " weights" + describe_spec(node.weight_quant->spec);
    text += "\n";
  }
  for (const ValueId id : graph.outputs) text += "output " + describe(id) + "\n";
  return text;
}

Result<Shape> infer_shape(const Graph& graph, const Node& node) {
  return std::visit(ShapeOf{graph, node}, node.op);
}

Checked check(const Graph& graph) {
  std::vector<bool> defined(graph.values.size());
  for (size_t i = 0; i < graph.values.size(); ++i) {
    MPQ_CHECK(check_value(graph.values[i]));
    defined[i] = graph.values[i].is_constant;
  }
  const auto known = [&](ValueId id) { return id < graph.values.size(); };
  for (const ValueId id : graph.inputs) {
    if (!known(id) || defined[id])
      return Error{Status::kInvalidArgument,
                   "graph input " + std::to_string(id) + " is no free value"};
    defined[id] = true;
  }
  std::set<std::string> names;
  for (const Node& node : graph.nodes) {
    const OpInfo& info = info_of(node);
    if (node.name.empty() || !names.insert(node.name).second)
      return fail(node, "the name is empty or used twice");
    if (node.inputs.size() < info.min_inputs || node.inputs.size() > info.max_inputs)
      return fail(node, std::to_string(node.inputs.size()) + " inputs, expected " +
                            std::to_string(info.min_inputs) + ".." +
                            std::to_string(info.max_inputs));
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      if (id == kNoValue && (i >= info.min_inputs || (i > 0 && i == info.optional))) continue;
      if (!known(id) || !defined[id])
        return fail(node, "input " + std::to_string(i) + " is not defined before");
      if (i >= info.activations && !graph.values[id].is_constant)
        return fail(node, "input " + std::to_string(i) + " must be a constant");
    }
    if (!known(node.output) || defined[node.output])
      return fail(node, "the output has another producer");
    if (is_sequence_op(node.op) && graph.sequence_length == 0)
      return fail(node, "the graph has no sequence length");
    MPQ_TRY(const Shape shape, infer_shape(graph, node));
    if (shape != graph.values[node.output].shape)
      return fail(node, "output shape " + to_string(graph.values[node.output].shape) +
                            ", inferred " + to_string(shape));
    if (const auto* quant = std::get_if<FakeQuant>(&node.op))
      MPQ_CHECK(check_fake_quant(node, quant->spec, shape));
    MPQ_CHECK(check_weight_quant(graph, node));
    defined[node.output] = true;
  }
  if (graph.outputs.empty()) return Error{Status::kInvalidArgument, "the graph has no output"};
  for (const ValueId id : graph.outputs)
    if (!known(id) || !defined[id])
      return Error{Status::kInvalidArgument,
                   "graph output " + std::to_string(id) + " is not defined"};
  return Ok{};
}

void remove_dead(Graph* graph) {
  std::vector<bool> live(graph->values.size());
  for (const ValueId id : graph->outputs) live[id] = true;
  std::vector<Node> kept;
  for (auto node = graph->nodes.rbegin(); node != graph->nodes.rend(); ++node) {
    if (!live[node->output]) continue;
    for (const ValueId id : node->inputs)
      if (id != kNoValue) live[id] = true;
    kept.push_back(std::move(*node));
  }
  std::reverse(kept.begin(), kept.end());
  graph->nodes = std::move(kept);
  for (size_t i = 0; i < graph->values.size(); ++i)  // ids stay; only the memory goes
    if (!live[i])
      std::vector<float>().swap(graph->values[i].data), graph->values[i].is_constant = false;
}

}  // namespace mpq::convert
