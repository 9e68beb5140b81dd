#include "converter/nvidia/builder.h"

namespace mpq::convert::nvidia {

format::TensorId Builder::add_tensor(format::Tensor tensor) {
  auto& tensors = lowered_.model.tensors;
  tensors.push_back(std::move(tensor));
  return static_cast<format::TensorId>(tensors.size() - 1);
}

format::TensorId Builder::add_codes(const std::string& name, const Shape& shape,
                                    const Codes& range) {
  const bool four_bit = range.min == 0 && range.max <= max_code(DType::kU4);
  return add_tensor({.name = name,
                     .dtype = four_bit ? DType::kU4 : DType::kU8,
                     .shape = shape,
                     .quant = {1.0F, range.zero_point}});
}

void Builder::add_node(const std::string& name, format::Attrs attrs,
                       std::vector<format::TensorId> inputs, format::TensorId output) {
  lowered_.model.nodes.push_back(
      {.name = name, .attrs = std::move(attrs), .inputs = std::move(inputs), .outputs = {output}});
}

void Builder::add_map_layer(const std::string& node, int weight_bits, int activation_bits,
                            uint32_t group) {
  format::PrecisionMap& map = lowered_.model.map;
  map.layers.push_back(
      {node, static_cast<uint8_t>(weight_bits), static_cast<uint8_t>(activation_bits), group});
  if (map.groups.size() <= group) map.groups.resize(group + 1);
  map.groups[group].fixed = true;  // the release was trained at these bits
}

}  // namespace mpq::convert::nvidia
