// What operator functions ask of their operands.
#pragma once

#include "converter/onnx/importer.h"

namespace mpq::convert {

// Problems when operand i is not what the operator needs.
Outcome expect_activation(const NodeView& node, size_t i, size_t rank = 0);  // rank 0: any
Outcome expect_constant(const NodeView& node, size_t i);
Outcome expect_no_padding(const NodeView& node, size_t i);

// The integers of a constant operand (any shape), or `otherwise` when it is absent.
Outcome constant_integers(const NodeView& node, size_t i, std::vector<int64_t>* values);

// Elements of a shape that is known to be small enough.
size_t element_count(const Shape& shape);

// An axis from -rank..rank-1 as 0..rank-1; false when it is outside.
bool normalise_axis(int64_t axis, size_t rank, size_t* result);

// Ends a quantiser of an activation: the node's output is the value on the grid. lo and hi are the
// codes that the quantiser can give.
Outcome finish_activation(const NodeView& node, const Operand& codes, int64_t lo, int64_t hi);

// Narrows the codes of a kQuantised operand; a bound that is absent does not.
Outcome narrow_codes(const NodeView& node, const Operand& operand, std::optional<double> lo,
                     std::optional<double> hi);

// y = x * factor + offset with per-channel (or single) constants; either may be null. A BatchNorm,
// which fold_bn merges into the layer before.
Outcome emit_affine(const NodeView& node, const Operand& x, const Tensor* factor,
                    const Tensor* offset);

}  // namespace mpq::convert
