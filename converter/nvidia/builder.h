// Tensors, constants and nodes of the model under construction.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "converter/lower.h"

namespace mpq::convert::nvidia {

// Codes flowing between layers: the tensor and the numbers that its codes can stand for.
struct Codes {
  format::TensorId id = format::kNoTensor;
  int32_t min = 0, max = 0;  // code - zero_point
  int32_t zero_point = 0;
};

class Builder {
 public:
  explicit Builder(LoweredModel* lowered) : lowered_(*lowered) {}

  format::TensorId add_tensor(format::Tensor tensor);

  template <typename T>
  format::TensorId add_constant(const std::string& name, DType dtype, Shape shape,
                                const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    const auto& stored = lowered_.storage.emplace_back(bytes.begin(), bytes.end());
    return add_tensor({.name = name, .dtype = dtype, .shape = std::move(shape), .data = stored});
  }

  // The release does not state the real values of its codes; scale 1 keeps them readable as
  // numbers.
  format::TensorId add_codes(const std::string& name, const Shape& shape, const Codes& range);

  void add_node(const std::string& name, format::Attrs attrs, std::vector<format::TensorId> inputs,
                format::TensorId output);
  void add_map_layer(const std::string& node, int weight_bits, int activation_bits, uint32_t group);

  Shape shape_of(format::TensorId id) const { return lowered_.model.tensors[id].shape; }

 private:
  LoweredModel& lowered_;
};

}  // namespace mpq::convert::nvidia
