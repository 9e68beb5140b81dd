// ONNX models built in memory: what exporters write, node by node.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

namespace mpq::convert {

class OnnxBuilder {
 public:
  explicit OnnxBuilder(int64_t opset = 13) {
    model.set_ir_version(8);
    model.add_opset_import()->set_version(opset);
    graph().set_name("test");
  }
  onnx::GraphProto& graph() { return *model.mutable_graph(); }

  static void describe(onnx::ValueInfoProto* info, const std::string& name,
                       const std::vector<int64_t>& shape) {
    info->set_name(name);
    auto* type = info->mutable_type()->mutable_tensor_type();
    type->set_elem_type(onnx::TensorProto::FLOAT);
    type->mutable_shape();
    for (const int64_t dim : shape) {
      auto* d = type->mutable_shape()->add_dim();
      if (dim < 0)
        d->set_dim_param("n");
      else
        d->set_dim_value(dim);
    }
  }
  OnnxBuilder& input(const std::string& name, const std::vector<int64_t>& shape) {
    describe(graph().add_input(), name, shape);
    return *this;
  }
  OnnxBuilder& output(const std::string& name) {
    describe(graph().add_output(), name, {});
    return *this;
  }
  onnx::TensorProto* tensor(const std::string& name, int32_t type,
                            const std::vector<int64_t>& shape) {
    onnx::TensorProto* tensor = graph().add_initializer();
    tensor->set_name(name);
    tensor->set_data_type(type);
    for (const int64_t dim : shape) tensor->add_dims(dim);
    return tensor;
  }
  OnnxBuilder& floats(const std::string& name, const std::vector<int64_t>& shape,
                      const std::vector<float>& data) {
    tensor(name, onnx::TensorProto::FLOAT, shape)
        ->set_raw_data(data.data(), data.size() * sizeof(float));
    return *this;
  }
  OnnxBuilder& scalar(const std::string& name, float value) { return floats(name, {}, {value}); }
  // Any integer type in its typed field; below 8 bit the entries are packed bytes.
  OnnxBuilder& integers(const std::string& name, int32_t type, const std::vector<int64_t>& shape,
                        const std::vector<int64_t>& data) {
    onnx::TensorProto* t = tensor(name, type, shape);
    for (const int64_t v : data) {
      if (type == onnx::TensorProto::INT64)
        t->add_int64_data(v);
      else
        t->add_int32_data(static_cast<int32_t>(v));
    }
    return *this;
  }
  onnx::NodeProto* node(const std::string& op, const std::vector<std::string>& inputs,
                        const std::string& output, const std::string& domain = "") {
    onnx::NodeProto* node = graph().add_node();
    node->set_op_type(op);
    node->set_name(output + "_node");
    node->set_domain(domain);
    for (const std::string& input : inputs) node->add_input(input);
    node->add_output(output);
    return node;
  }
  onnx::ModelProto model;
};

inline onnx::AttributeProto* attribute(onnx::NodeProto* node, const std::string& name) {
  onnx::AttributeProto* attribute = node->add_attribute();
  attribute->set_name(name);
  return attribute;
}
inline void set_int(onnx::NodeProto* node, const std::string& name, int64_t value) {
  onnx::AttributeProto* a = attribute(node, name);
  a->set_type(onnx::AttributeProto::INT);
  a->set_i(value);
}
inline void set_float(onnx::NodeProto* node, const std::string& name, float value) {
  onnx::AttributeProto* a = attribute(node, name);
  a->set_type(onnx::AttributeProto::FLOAT);
  a->set_f(value);
}
inline void set_text(onnx::NodeProto* node, const std::string& name, const std::string& value) {
  onnx::AttributeProto* a = attribute(node, name);
  a->set_type(onnx::AttributeProto::STRING);
  a->set_s(value);
}
inline void set_ints(onnx::NodeProto* node, const std::string& name,
                     const std::vector<int64_t>& values) {
  onnx::AttributeProto* a = attribute(node, name);
  a->set_type(onnx::AttributeProto::INTS);
  for (const int64_t value : values) a->add_ints(value);
}

}  // namespace mpq::convert
