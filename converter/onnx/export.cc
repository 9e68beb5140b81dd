#include "converter/onnx/export.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "converter/onnx/tensor.h"
#include "format/bits.h"

namespace mpq::convert {
namespace {

struct Version {
  int64_t opset, ir;
};
// By the narrowest codes of the model.
Version version_of(int bits) {
  return bits == 2 ? Version{25, 13} : bits == 4 ? Version{21, 10} : Version{17, 8};
}

int32_t element_type(int bits, bool is_signed) {
  if (bits == 8) return is_signed ? kInt8 : kUint8;
  if (bits == 4) return is_signed ? kInt4 : kUint4;
  return is_signed ? kInt2 : kUint2;
}

class Exporter {
 public:
  explicit Exporter(const Graph& graph) : graph_(graph) {}

  Result<std::vector<std::byte>> run();

 private:
  struct Visit;

  onnx::GraphProto& out() { return *model_.mutable_graph(); }
  std::string name(ValueId id) const {
    return "v" + std::to_string(id) + "_" + graph_.values[id].name;
  }

  void describe(onnx::ValueInfoProto* info, ValueId id) {
    info->set_name(name(id));
    auto* const type = info->mutable_type()->mutable_tensor_type();
    type->set_elem_type(kFloat);
    for (const int64_t dim : graph_.values[id].shape)
      type->mutable_shape()->add_dim()->set_dim_value(dim);
  }
  std::string add_tensor(const std::string& name, int32_t type, const Shape& shape,
                         const void* data, size_t bytes) {
    onnx::TensorProto* const tensor = out().add_initializer();
    tensor->set_name(name);
    tensor->set_data_type(type);
    for (const int64_t dim : shape) tensor->add_dims(dim);
    tensor->set_raw_data(data, bytes);
    return name;
  }
  std::string floats(const std::string& name, const Shape& shape, const std::vector<float>& data) {
    return add_tensor(name, kFloat, shape, data.data(), data.size() * sizeof(float));
  }
  std::string constant(ValueId id) {
    const std::string tensor = name(id);
    for (const onnx::TensorProto& known : out().initializer())
      if (known.name() == tensor) return tensor;
    return floats(tensor, graph_.values[id].shape, graph_.values[id].data);
  }
  // Codes, canonical order, packed low bits first as ONNX packs them.
  template <typename Code>
  std::string codes(const std::string& name, const QuantSpec& spec, const Shape& shape,
                    const std::vector<Code>& data) {
    narrowest_ = std::min(narrowest_, spec.bits);
    std::vector<std::byte> bytes(format::packed_bytes(data.size(), spec.bits));
    for (size_t i = 0; i < data.size(); ++i)
      format::set_code(bytes, i, spec.bits, static_cast<int32_t>(data[i]));
    return add_tensor(name, element_type(spec.bits, spec.is_signed), shape, bytes.data(),
                      bytes.size());
  }

  onnx::NodeProto* add_node(const char* type, const std::string& node_name,
                            const std::vector<std::string>& inputs, const std::string& output) {
    onnx::NodeProto* const node = out().add_node();
    node->set_op_type(type);
    node->set_name(node_name);
    for (const std::string& input : inputs) node->add_input(input);
    node->add_output(output);
    return node;
  }
  static void set(onnx::NodeProto* node, const char* key, std::initializer_list<int64_t> values) {
    onnx::AttributeProto* const attribute = node->add_attribute();
    attribute->set_name(key);
    attribute->set_type(onnx::AttributeProto::INTS);
    for (const int64_t value : values) attribute->add_ints(value);
  }
  static void set(onnx::NodeProto* node, const char* key, int64_t value) {
    onnx::AttributeProto* const attribute = node->add_attribute();
    attribute->set_name(key);
    attribute->set_type(onnx::AttributeProto::INT);
    attribute->set_i(value);
  }
  static void set(onnx::NodeProto* node, const char* key, float value) {
    onnx::AttributeProto* const attribute = node->add_attribute();
    attribute->set_name(key);
    attribute->set_type(onnx::AttributeProto::FLOAT);
    attribute->set_f(value);
  }

  Error unsupported(const Node& node, const std::string& why) const {
    return {Status::kUnsupported, node.name + " (" + op_name(node.op) + "): " + why};
  }
  Checked check_range(const Node& node, const QuantSpec& spec) const {
    const int32_t lowest = spec.is_signed ? -(1 << (spec.bits - 1)) : 0;
    if (spec.lo == lowest && spec.hi == lowest + (1 << spec.bits) - 1) return Ok{};
    return unsupported(node, "codes " + std::to_string(spec.lo) + ".." + std::to_string(spec.hi) +
                                 " are not all of " + std::to_string(spec.bits) + " bits");
  }

  // Float weights that round to the layer's codes, where training left them.
  std::string codes_of(const std::string& stem, const WeightQuant& quant, const Shape& shape,
                       const std::string& scale) {
    if (quant.positions.empty()) return codes(stem + ".codes", quant.spec, shape, quant.codes);
    constexpr float kFarthest = 0.499F;  // from a code: a rounding of binary32 takes it no further
    const size_t part = quant.codes.size() / quant.spec.scale.size();
    std::vector<float> real(quant.codes.size());
    for (size_t i = 0; i < real.size(); ++i) {
      const auto code = static_cast<float>(quant.codes[i]);
      const float place = std::clamp(quant.positions[i] - code, -kFarthest, kFarthest);
      real[i] = (code + place) * quant.spec.scale[i / part];
    }
    const std::vector<int8_t> zeros(quant.spec.scale.size());
    const std::string zero = codes(stem + ".zero", quant.spec, steps_shape(quant.spec), zeros);
    const std::string latent = floats(stem + ".latent", shape, real), to = stem + ".codes";
    set_axis(add_node("QuantizeLinear", stem + ".quantise", {latent, scale, zero}, to), quant.spec);
    return to;
  }
  static void set_axis(onnx::NodeProto* node, const QuantSpec& spec) {
    if (spec.scale.size() > 1) set(node, "axis", int64_t{0});
  }
  static Shape steps_shape(const QuantSpec& spec) {
    return spec.scale.size() == 1 ? Shape{} : Shape{static_cast<int64_t>(spec.scale.size())};
  }

  // The float weights of a layer, or its codes behind a DequantizeLinear.
  Result<std::string> weights(const Node& node) {
    const ValueId id = node.inputs[1];
    if (!node.weight_quant) return constant(id);
    const QuantSpec& spec = node.weight_quant->spec;
    MPQ_CHECK(check_range(node, spec));
    const std::string stem = node.name + ".weight", real = stem + ".real";
    const std::string scale = floats(stem + ".scale", steps_shape(spec), spec.scale);
    const std::string from = codes_of(stem, *node.weight_quant, graph_.values[id].shape, scale);
    set_axis(add_node("DequantizeLinear", stem, {from, scale}, real), spec);
    return real;
  }

  const Graph& graph_;
  onnx::ModelProto model_;
  int narrowest_ = 8;
};

struct Exporter::Visit {
  Exporter& to;
  const Node& node;

  onnx::NodeProto* add(const char* type, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> inputs = {to.name(node.inputs[0])};
    inputs.insert(inputs.end(), more.begin(), more.end());
    return to.add_node(type, node.name, inputs, to.name(node.output));
  }
  Result<std::vector<std::string>> layer_inputs() const {
    std::vector<std::string> inputs(1);
    MPQ_TRY(inputs[0], to.weights(node));
    if (node.inputs.size() > 2 && node.inputs[2] != kNoValue)
      inputs.push_back(to.constant(node.inputs[2]));
    return inputs;
  }
  template <typename Pool>
  static void set_window(onnx::NodeProto* proto, const Pool& p) {
    set(proto, "kernel_shape", {p.kernel_h, p.kernel_w});
    set(proto, "strides", {p.stride_h, p.stride_w});
  }

  Checked operator()(const Conv& c) const {
    MPQ_TRY(const auto inputs, layer_inputs());
    const Shape& w = to.graph_.values[node.inputs[1]].shape;
    onnx::NodeProto* const conv = add("Conv", inputs);
    set(conv, "kernel_shape", {w[2], w[3]});
    set(conv, "strides", {c.stride_h, c.stride_w});
    set(conv, "pads", {c.pad_top, c.pad_left, c.pad_bottom, c.pad_right});
    set(conv, "dilations", {c.dilation_h, c.dilation_w});
    set(conv, "group", int64_t{c.groups});
    return Ok{};
  }
  Checked operator()(const Linear&) const {
    MPQ_TRY(const auto inputs, layer_inputs());
    set(add("Gemm", inputs), "transB", int64_t{1});
    return Ok{};
  }
  Checked operator()(const BatchNorm& bn) const {
    std::vector<std::string> constants;
    for (size_t i = 1; i < 5; ++i) constants.push_back(to.constant(node.inputs[i]));
    set(add("BatchNormalization", constants), "epsilon", bn.epsilon);
    return Ok{};
  }
  Checked operator()(const Relu&) const { return add("Relu"), Ok{}; }
  Checked operator()(const Clip& clip) const {
    return add("Clip", {to.floats(node.name + ".lo", {}, {clip.lo}),
                        to.floats(node.name + ".hi", {}, {clip.hi})}),
           Ok{};
  }
  Checked operator()(const Add&) const { return add("Add", {to.name(node.inputs[1])}), Ok{}; }
  Checked operator()(const MaxPool& p) const {
    onnx::NodeProto* const pool = add("MaxPool");
    set_window(pool, p);
    set(pool, "pads", {p.pad_top, p.pad_left, p.pad_bottom, p.pad_right});
    return Ok{};
  }
  Checked operator()(const AvgPool& p) const {
    if (p.kernel_h == 0)
      add("GlobalAveragePool");
    else
      set_window(add("AveragePool"), p);
    return Ok{};
  }
  Checked operator()(const Flatten&) const { return add("Flatten"), Ok{}; }
  Checked operator()(const FakeQuant& quant) const {
    const QuantSpec& spec = quant.spec;
    MPQ_CHECK(to.check_range(node, spec));
    if (spec.scale.size() != 1) return to.unsupported(node, "several scales");
    const std::string scale = to.floats(node.name + ".scale", {}, spec.scale);
    const std::string zero =
        to.codes(node.name + ".zero", spec, {}, std::vector<int32_t>{spec.zero_point});
    to.add_node("QuantizeLinear", node.name + ".quantise", {to.name(node.inputs[0]), scale, zero},
                node.name + ".codes");
    to.add_node("DequantizeLinear", node.name, {node.name + ".codes", scale, zero},
                to.name(node.output));
    return Ok{};
  }
  template <typename Other>
  Checked operator()(const Other&) const {
    return to.unsupported(node, "has no export");
  }
};

Result<std::vector<std::byte>> Exporter::run() {
  MPQ_CHECK(check(graph_));
  if (graph_.sequence_length != 0)
    return Error{Status::kUnsupported, "a network of sequences has no export"};
  out().set_name(graph_.name);
  for (const ValueId id : graph_.inputs) describe(out().add_input(), id);
  for (const ValueId id : graph_.outputs) describe(out().add_output(), id);
  for (const Node& node : graph_.nodes) MPQ_CHECK(std::visit(Visit{*this, node}, node.op));
  const Version version = version_of(narrowest_);
  model_.set_ir_version(version.ir);
  model_.set_producer_name("mpqconvert");
  model_.add_opset_import()->set_version(version.opset);
  std::vector<std::byte> bytes(model_.ByteSizeLong());
  if (!model_.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())))
    return Error{Status::kLimit, "the model is too large for one file of ONNX"};
  return bytes;
}

}  // namespace

Result<std::vector<std::byte>> export_onnx(const Graph& graph) { return Exporter(graph).run(); }

}  // namespace mpq::convert
