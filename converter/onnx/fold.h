// Arithmetic on constant tensors: what exporters leave in the graph although it is known.
#pragma once

#include "converter/onnx/importer.h"

namespace mpq::convert {

// Numpy's broadcasting; false when the shapes do not fit.
bool broadcast(const Shape& a, const Shape& b, Shape* result);

// Element-wise on broadcast operands; integers stay integers.
using BinaryReal = float (*)(float, float);
using BinaryInteger = int64_t (*)(int64_t, int64_t);
Outcome fold_binary(const Tensor& a, const Tensor& b, BinaryReal real, BinaryInteger integer,
                    Tensor* result);

// result[i] = source[index[i]]; refuses weights that carry a grid.
Outcome fold_select(const Tensor& source, Shape shape, const std::vector<size_t>& index,
                    Tensor* result);

// Also moves the channel axis of a grid.
Tensor transpose(const Tensor& source, const std::vector<size_t>& permutation);

// Scale of a quantiser as a list and the axis it belongs to, within a tensor of shape `shape`: one
// element, a vector along `axis` (when 0 <= axis), or the same rank with one extent above 1.
Outcome read_scale(const Tensor& scale, const Shape& shape, int64_t axis,
                   std::vector<float>* values, size_t* along);

// Visits every element with the entry of the per-axis list that belongs to it.
template <typename Visit>
void for_each_with_axis(const Shape& shape, size_t axis, size_t entries, const Visit& visit) {
  size_t inner = 1, count = 1;
  for (size_t d = 0; d < shape.size(); ++d) {
    count *= static_cast<size_t>(shape[d]);
    if (d > axis) inner *= static_cast<size_t>(shape[d]);
  }
  for (size_t i = 0; i < count; ++i) visit(i, entries == 1 ? 0 : i / inner % entries);
}

// The grid of an activation with codes lo..hi around zero_point, shifted to unsigned codes.
Outcome activation_spec(float scale, int64_t zero_point, int64_t lo, int64_t hi, QuantSpec* spec);

// Weights (codes - zero_point) * scale with codes allowed in lo..hi. positions: what was rounded to
// the codes, or empty.
Outcome weight_grid(const Shape& shape, const std::vector<int64_t>& codes,
                    std::span<const float> positions, const std::vector<int64_t>& zero_points,
                    std::vector<float> scale, size_t axis, int64_t lo, int64_t hi, Tensor* result);

// The same as what a layer keeps of its weights.
WeightQuant weight_quant_of(const Grid& grid);

}  // namespace mpq::convert
