#include "format/validate.h"

#include "format/validate_internal.h"

namespace mpq::format {
namespace {

constexpr size_t kMaxTensors = 65536;
constexpr size_t kMaxNodes = 65536;
constexpr size_t kMaxEnds = 64;

bool distinct(std::vector<TensorId> ids) {
  std::ranges::sort(ids);
  return std::ranges::adjacent_find(ids) == ids.end();
}

Checked check_counts(const Model& model) {
  MPQ_REQUIRE(kTensorCount, model.tensors.size() <= kMaxTensors, model.tensors.size(),
              " tensors, at most ", kMaxTensors);
  MPQ_REQUIRE(kNodeCount, model.nodes.size() <= kMaxNodes, model.nodes.size(), " nodes, at most ",
              kMaxNodes);
  return Ok{};
}

// Type, role and scale of one operand that is there.
Checked check_operand(const Model& model, const NodeName& who, const Operand& o, TensorId id) {
  MPQ_REQUIRE(kNodeOperand, id < model.tensors.size(), who, ": ", o.name, " is tensor ", id, " of ",
              model.tensors.size());
  const Tensor& t = model.tensors[id];
  MPQ_REQUIRE(kNodeType, accepts(o.kind, t.dtype), who, ": ", o.name, " cannot be ",
              to_string(t.dtype));
  MPQ_REQUIRE(kNodeRole, t.is_constant() == is_parameter(o.kind), who, ": ", o.name,
              t.is_constant() ? " is constant" : " is not constant");
  const bool codes = !is_parameter(o.kind) && o.kind != OperandKind::kPixels && is_code(t.dtype);
  const bool unscaled = o.kind == OperandKind::kPixels || o.kind == OperandKind::kTable;
  MPQ_REQUIRE(kNodeQuantised, (!codes || t.quant.scale > 0) && (!unscaled || t.quant.scale == 0),
              who, ": ", o.name, " has scale ", t.quant.scale);
  return Ok{};
}

Checked check_operands(const Model& model, const NodeName& who, const char* what,
                       std::span<const Operand> wanted, const std::vector<TensorId>& ids) {
  const size_t least = required_operands(wanted);
  MPQ_REQUIRE(kNodeArity, ids.size() >= least && ids.size() <= wanted.size(), who, ": ", ids.size(),
              " ", what, ", not ", least, " to ", wanted.size());
  for (size_t i = 0; i < ids.size(); ++i)
    if (!(ids[i] == kNoTensor && wanted[i].optional))
      MPQ_CHECK(check_operand(model, who, wanted[i], ids[i]));
  return Ok{};
}

// Marks the graph's inputs and the constants as made.
Checked check_inputs(const Model& model, std::vector<bool>* made) {
  for (size_t i = 0; i < model.tensors.size(); ++i) (*made)[i] = model.tensors[i].is_constant();
  MPQ_REQUIRE(kGraphInputs, !model.inputs.empty() && model.inputs.size() <= kMaxEnds,
              model.inputs.size(), " graph inputs, not 1 to ", kMaxEnds);
  for (const TensorId id : model.inputs) {
    MPQ_REQUIRE(kGraphInputs, id < model.tensors.size(), "graph input is tensor ", id, " of ",
                model.tensors.size());
    MPQ_REQUIRE(kGraphInputs, !(*made)[id], "graph input ", TensorName{model, id},
                " is a constant or named twice");
    MPQ_REQUIRE(kGraphBatch, model.tensors[id].shape[0] == 1, "graph input ", TensorName{model, id},
                ": first dimension ", model.tensors[id].shape[0], " is not 1");
    (*made)[id] = true;
  }
  return Ok{};
}

Checked check_node(Validation& v, const Node& node, std::vector<bool>* made) {
  const Model& model = v.model;
  const NodeName who{model, node};
  const Signature& wanted = signature(node.op());
  MPQ_CHECK(check_operands(model, who, "inputs", wanted.inputs, node.inputs));
  MPQ_CHECK(check_operands(model, who, "outputs", wanted.outputs, node.outputs));
  for (const TensorId id : node.inputs)
    MPQ_REQUIRE(kNodeOrder, id == kNoTensor || (*made)[id], who, ": reads ", TensorName{model, id},
                " before it is made");
  MPQ_TRY(const Shape inferred, infer_shape(model, node));
  for (const TensorId id : node.outputs) {
    if (id == kNoTensor) continue;
    MPQ_REQUIRE(kNodeAssignment, !(*made)[id], who, ": ", TensorName{model, id},
                " is made already");
    const Shape& stated = model.tensors[id].shape;
    MPQ_REQUIRE(kNodeOutputShape, stated == inferred, who, ": ", TensorName{model, id},
                " has shape ", to_string(stated), ", inferred ", to_string(inferred));
    (*made)[id] = true;
  }
  return check_attributes(v, node);
}

// Every node leads to an output, every tensor belongs to a node.
Checked check_reach(const Model& model) {
  std::vector<bool> live(model.tensors.size()), used(model.tensors.size());
  for (const TensorId id : model.outputs) live[id] = true;
  for (size_t i = model.nodes.size(); i-- > 0;) {
    const Node& node = model.nodes[i];
    const bool leads =
        std::ranges::any_of(node.outputs, [&](TensorId id) { return id != kNoTensor && live[id]; });
    MPQ_REQUIRE(kGraphDead, leads, NodeName{model, node}, ": nothing uses what it makes");
    for (const TensorId id : node.inputs)
      if (id != kNoTensor) live[id] = used[id] = true;
    for (const TensorId id : node.outputs)
      if (id != kNoTensor) used[id] = true;
  }
  for (size_t i = 0; i < used.size(); ++i)
    MPQ_REQUIRE(kGraphUnused, used[i], TensorName{model, static_cast<TensorId>(i)},
                ": no node reads or makes it");
  return Ok{};
}

}  // namespace

Checked check_graph(Validation& v) {
  const Model& model = v.model;
  std::vector<bool> made(model.tensors.size());
  MPQ_CHECK(check_inputs(model, &made));
  for (const TensorId id : model.inputs) {
    const DType type = model.tensors[id].dtype;
    if (is_code(type)) v.ranges[id] = {min_code(type), max_code(type)};
  }
  const std::vector<bool> given = made;
  for (const Node& node : model.nodes) MPQ_CHECK(check_node(v, node, &made));
  MPQ_REQUIRE(kGraphOutputs, !model.outputs.empty() && model.outputs.size() <= kMaxEnds,
              model.outputs.size(), " graph outputs, not 1 to ", kMaxEnds);
  for (const TensorId id : model.outputs)
    MPQ_REQUIRE(kGraphOutputs, id < model.tensors.size() && made[id] && !given[id], "graph output ",
                TensorName{model, id}, " is made by no node");
  MPQ_REQUIRE(kGraphOutputs, distinct(model.outputs), "a graph output is named twice");
  return check_reach(model);
}

Checked validate(const Model& model) {
  Validation v{model, {}, {}};
  MPQ_CHECK(check_counts(model));
  MPQ_CHECK(check_texts(model));
  MPQ_CHECK(check_tensors(v));
  MPQ_CHECK(check_graph(v));
  MPQ_CHECK(check_sequences(model));
  MPQ_CHECK(check_vocabulary(model));
  return check_extras(model);
}

}  // namespace mpq::format
