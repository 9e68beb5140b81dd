// Operators that move or describe data. On activations only those that change nothing or flatten;
// on constants (the shape arithmetic of exporters) they are computed.

#include <algorithm>
#include <cmath>

#include "converter/onnx/fold.h"
#include "converter/onnx/operands.h"
#include "converter/onnx/sequence.h"

namespace mpq::convert {
namespace {

using Kind = Operand::Kind;

Outcome import_identity(const NodeView& node) {
  node.importer->alias(node, node.proto->input(0));
  return {};
}

Outcome import_dropout(const NodeView& node) {
  const Operand& training = node.in(2);
  if (training.is_constant() && training.tensor->elements() == 1 && training.tensor->at(0) != 0.0)
    return Problem{"it is in training mode", "call model.eval() before the export"};
  return import_identity(node);
}

Outcome import_constant(const NodeView& node) {
  if (const onnx::AttributeProto* value = node.find("value")) {
    auto tensor = node.importer->read_constant(value->t());
    if (!tensor.ok()) return Problem{tensor.error().message, "export the model again"};
    node.importer->define_constant(node, std::move(*tensor));
  } else if (node.has_attribute("value_int")) {
    node.importer->define_constant(node, make_integers({}, {node.integer("value_int", 0)}));
  } else if (node.has_attribute("value_ints")) {
    const std::vector<int64_t> values = node.integers("value_ints");
    node.importer->define_constant(node,
                                   make_integers({static_cast<int64_t>(values.size())}, values));
  } else if (node.has_attribute("value_float")) {
    node.importer->define_constant(node,
                                   {.type = kFloat, .reals = {node.real("value_float", 0.0F)}});
  } else if (const onnx::AttributeProto* floats = node.find("value_floats")) {
    Tensor tensor{.type = kFloat, .shape = {floats->floats_size()}};
    tensor.reals.assign(floats->floats().begin(), floats->floats().end());
    node.importer->define_constant(node, std::move(tensor));
  } else {
    return Problem{"the constant is sparse or text", "export numbers"};
  }
  return {};
}

Outcome import_constant_of_shape(const NodeView& node) {
  std::vector<int64_t> dims;
  if (Outcome problem = constant_integers(node, 0, &dims)) return problem;
  uint64_t elements = 0;
  if (!checked_elements(dims, &elements) || elements > 1 << 26)
    return Problem{"the shape " + to_string(dims) + " is too large",
                   "export the constant as initialiser"};
  Tensor tensor{.type = kFloat, .shape = dims, .reals = std::vector<float>(elements, 0.0F)};
  if (const onnx::AttributeProto* value = node.find("value")) {
    auto given = node.importer->read_constant(value->t());
    if (!given.ok() || given->elements() != 1)
      return Problem{"the value is no single number", "export the model again"};
    tensor.type = given->type;
    tensor.reals.assign(given->is_integer() ? 0 : elements,
                        given->is_integer() ? 0.0F : given->reals[0]);
    tensor.integers.assign(given->is_integer() ? elements : 0,
                           given->is_integer() ? given->integers[0] : 0);
  }
  node.importer->define_constant(node, std::move(tensor));
  return {};
}

// The shape of an operand as the model sees it: padding counts.
Shape visible_shape(const NodeView& node) {
  Shape shape = node.shape(0);
  const Padding& pad = node.in(0).padding;
  if (shape.size() == 4) {
    shape[2] += pad.top + pad.bottom;
    shape[3] += pad.left + pad.right;
  }
  return shape;
}

Outcome import_shape(const NodeView& node) {
  if (!node.in(0).is_constant())
    if (Outcome problem = expect_activation(node, 0)) return problem;
  const Shape shape = visible_shape(node);
  const auto rank = static_cast<int64_t>(shape.size());
  const auto limit = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + rank : v, 0, rank); };
  const int64_t start = limit(node.integer("start", 0)),
                end = std::max(limit(node.integer("end", rank)), start);
  node.importer->define_constant(
      node, make_integers({end - start}, {shape.begin() + start, shape.begin() + end}));
  return {};
}

Outcome import_gather(const NodeView& node) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  if (Outcome problem = expect_constant(node, 1)) return problem;
  const Tensor &data = *node.in(0).tensor, &indices = *node.in(1).tensor;
  size_t axis = 0;
  if (!indices.is_integer() || !normalise_axis(node.integer("axis", 0), data.shape.size(), &axis))
    return Problem{"axis or indices are wrong", "export the model again"};
  const Shape before(data.shape.begin(), data.shape.begin() + static_cast<ptrdiff_t>(axis));
  const Shape after(data.shape.begin() + static_cast<ptrdiff_t>(axis) + 1, data.shape.end());
  const size_t inner = element_count(after), extent = static_cast<size_t>(data.shape[axis]);
  Shape shape = before;
  shape.insert(shape.end(), indices.shape.begin(), indices.shape.end());
  shape.insert(shape.end(), after.begin(), after.end());
  std::vector<size_t> index;
  for (size_t outer = 0; outer < element_count(before); ++outer)
    for (int64_t at : indices.integers) {
      if (at < 0) at += static_cast<int64_t>(extent);
      if (at < 0 || static_cast<size_t>(at) >= extent)
        return Problem{"an index is outside 0.." + std::to_string(extent),
                       "export the model again"};
      for (size_t i = 0; i < inner; ++i)
        index.push_back((outer * extent + static_cast<size_t>(at)) * inner + i);
    }
  Tensor result;
  if (Outcome problem = fold_select(data, std::move(shape), index, &result)) return problem;
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome import_concat(const NodeView& node) {
  if (node.inputs() == 0) return Problem{"it has no input", "export the model again"};
  for (size_t i = 0; i < node.inputs(); ++i)
    if (!node.in(i).is_constant())
      return Problem{"activations are concatenated",
                     "networks with concatenation are not supported"};
  const Tensor& first = *node.in(0).tensor;
  size_t axis = 0;
  if (!normalise_axis(node.integer("axis", 0), first.shape.size(), &axis))
    return Problem{"axis is wrong", "export the model again"};
  Tensor result{.type = first.type, .shape = first.shape};
  result.shape[axis] = 0;
  size_t outer = 1;
  for (size_t d = 0; d < axis; ++d) outer *= static_cast<size_t>(first.shape[d]);
  for (size_t i = 0; i < node.inputs(); ++i) {
    Shape shape = node.shape(i);
    if (shape.size() == first.shape.size()) {
      result.shape[axis] += shape[axis];
      shape[axis] = first.shape[axis];
    }
    if (shape != first.shape || node.in(i).tensor->is_integer() != first.is_integer() ||
        node.in(i).tensor->grid)
      return Problem{"the inputs do not fit each other", "export the model again"};
  }
  for (size_t o = 0; o < outer; ++o)
    for (size_t i = 0; i < node.inputs(); ++i) {
      const Tensor& part = *node.in(i).tensor;
      const size_t count = part.elements() / std::max<size_t>(outer, 1);
      for (size_t k = o * count; k < (o + 1) * count; ++k) {
        if (first.is_integer())
          result.integers.push_back(part.integers[k]);
        else
          result.reals.push_back(part.reals[k]);
      }
    }
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome cast_to(const NodeView& node, int32_t type) {
  const ElementInfo* to = element_info(type);
  if (to == nullptr)
    return Problem{"casts to element type " + std::to_string(type), "export the model in float"};
  if (!node.in(0).is_constant()) {
    if (Outcome problem = expect_activation(node, 0)) return problem;
    if (to->is_integer)
      return Problem{std::string("an activation is cast to ") + to->name,
                     "quantise with QuantizeLinear"};
    return import_identity(node);  // half, float or double: everything is computed in float
  }
  const Tensor& source = *node.in(0).tensor;
  if (to->is_integer == source.is_integer()) {
    Tensor result = source;
    result.type = type;
    if (type == kBool)
      for (int64_t& v : result.integers) v = v != 0 ? 1 : 0;
    node.importer->define_constant(node, std::move(result));
    return {};
  }
  Tensor result{.type = type, .shape = source.shape};
  for (size_t i = 0; i < source.elements(); ++i) {
    if (!to->is_integer)
      result.reals.push_back(static_cast<float>(source.at(i)));
    else if (type == kBool)
      result.integers.push_back(source.at(i) != 0.0 ? 1 : 0);
    else if (node.importer->sequences().length != 0 && !std::isfinite(source.at(i)))
      result.integers.push_back(INT64_MIN);  // as x86 does: the logarithm of distance 0, not used
    else if (!(source.at(i) > -9.2e18 && source.at(i) < 9.2e18))
      return Problem{"a number does not fit the type it is cast to", "export the model again"};
    else
      result.integers.push_back(static_cast<int64_t>(source.at(i)));
  }
  node.importer->define_constant(node, std::move(result));
  return {};
}
Outcome import_cast(const NodeView& node) {
  return cast_to(node, static_cast<int32_t>(node.integer("to", 0)));
}
Outcome import_cast_like(const NodeView& node) {
  return cast_to(node, node.in(1).is_constant() ? node.in(1).tensor->type : kFloat);
}

// The same numbers with another shape: constants take it; activations may only be flattened.
Outcome reshape_to(const NodeView& node, const Shape& to) {
  const Operand& x = node.in(0);
  if (x.is_constant()) {
    if (element_count(to) != x.tensor->elements())
      return Problem{
          "a constant of shape " + to_string(x.tensor->shape) + " cannot become " + to_string(to),
          "export the model again"};
    const auto& grid = x.tensor->grid;
    const bool per_axis =
        (grid && grid->scale.size() > 1) || (x.tensor->lsq && x.tensor->lsq->scale.size() > 1);
    if (per_axis && (grid ? grid->axis : x.tensor->lsq->axis) != 0)
      return Problem{"weights with per-channel scales are reshaped",
                     "quantise the weights as the layer reads them"};
    if (per_axis && (to.empty() || to[0] != x.tensor->shape[0]))
      return Problem{"a reshape divides the channels of quantised weights",
                     "quantise the weights as the layer reads them"};
    Tensor result = *x.tensor;
    result.shape = to;
    node.importer->define_constant(node, std::move(result));
    return {};
  }
  if (Outcome problem = expect_activation(node, 0)) return problem;
  if (Outcome problem = expect_no_padding(node, 0)) return problem;
  const Shape& from = node.shape(0);
  if (to == from) return import_identity(node);
  const auto elements = static_cast<int64_t>(element_count(from));
  if (to == Shape{1, elements}) return node.importer->emit(node, Flatten{}, {x.value});
  return Problem{"an activation of shape " + to_string(from) + " becomes " + to_string(to),
                 "only flattening to [batch, features] is supported"};
}

Outcome import_reshape(const NodeView& node) {
  std::vector<int64_t> target = node.integers("shape");  // before opset 5 an attribute
  if (Outcome problem = constant_integers(node, 1, &target)) return problem;
  if (node.in(0).kind != Kind::kConstant && node.in(0).kind != Kind::kActivation)
    return expect_activation(node, 0);
  const Shape& from = node.shape(0);
  Shape to = target;
  int64_t known = 1;
  ptrdiff_t unknown = -1;
  for (size_t d = 0; d < to.size(); ++d) {
    if (to[d] == 0 && node.integer("allowzero", 0) == 0) to[d] = d < from.size() ? from[d] : 0;
    if (to[d] == -1 && unknown < 0)
      unknown = static_cast<ptrdiff_t>(d);
    else if (to[d] < 0 || to[d] > (1 << 30))
      return Problem{"the target shape " + to_string(target) + " is wrong",
                     "export the model again"};
    else
      known *= std::max<int64_t>(to[d], 1);
    if (known > int64_t{1} << 30)
      return Problem{"the target shape is too large", "export the model again"};
  }
  const auto elements = static_cast<int64_t>(element_count(from));
  // A batch frozen by the exporter: the rest of the shape is what counts.
  if (node.in(0).is_activation() && to.size() == 2 && unknown == -1 && to[1] == elements) to[0] = 1;
  if (unknown >= 0) {
    if (elements % known != 0)
      return Problem{"shape " + to_string(from) + " cannot become " + to_string(target),
                     "export the model again"};
    to[static_cast<size_t>(unknown)] = elements / known;
    if (node.in(0).is_activation() && to.size() == 2 && unknown == 1 && to[0] > 1 && from[0] == 1)
      to = {1, elements};
  }
  return reshape_to(node, to);
}

Outcome import_flatten(const NodeView& node) {
  if (node.in(0).kind != Kind::kConstant && node.in(0).kind != Kind::kActivation)
    return expect_activation(node, 0);
  const Shape from = node.shape(0);
  const auto rank = static_cast<int64_t>(from.size());
  int64_t axis = node.integer("axis", 1);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis > rank) return Problem{"axis is wrong", "export the model again"};
  const Shape head(from.begin(), from.begin() + axis), tail(from.begin() + axis, from.end());
  return reshape_to(
      node, {static_cast<int64_t>(element_count(head)), static_cast<int64_t>(element_count(tail))});
}

// Axes from the attribute (before opset 13) or the second input.
Outcome read_axes(const NodeView& node, std::vector<int64_t>* axes) {
  *axes = node.integers("axes");
  return constant_integers(node, 1, axes);
}

Outcome import_squeeze(const NodeView& node) {
  if (node.in(0).kind != Kind::kConstant && node.in(0).kind != Kind::kActivation)
    return expect_activation(node, 0);
  std::vector<int64_t> axes;
  if (Outcome problem = read_axes(node, &axes)) return problem;
  const Shape from = node.shape(0);
  std::vector<bool> drop(from.size(), false);
  for (size_t d = 0; d < from.size(); ++d)
    drop[d] = axes.empty() && from[d] == 1 && (d > 0 || node.in(0).is_constant());
  for (const int64_t a : axes) {
    size_t axis = 0;
    if (!normalise_axis(a, from.size(), &axis) || from[axis] != 1)
      return Problem{
          "axis " + std::to_string(a) + " of shape " + to_string(from) + " cannot be squeezed",
          "export the model again"};
    drop[axis] = true;
  }
  Shape to;
  for (size_t d = 0; d < from.size(); ++d)
    if (!drop[d]) to.push_back(from[d]);
  return reshape_to(node, to);
}

Outcome import_unsqueeze(const NodeView& node) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  std::vector<int64_t> axes;
  if (Outcome problem = read_axes(node, &axes)) return problem;
  Shape to = node.shape(0);
  const size_t rank = to.size() + axes.size();
  if (rank > 8) return Problem{"the rank is above 8", "export the model again"};
  std::vector<bool> added(rank, false);
  for (const int64_t a : axes) {
    size_t axis = 0;
    if (!normalise_axis(a, rank, &axis) || added[axis])
      return Problem{"axis " + std::to_string(a) + " is wrong", "export the model again"};
    added[axis] = true;
  }
  for (size_t d = 0; d < rank; ++d)
    if (added[d]) to.insert(to.begin() + static_cast<ptrdiff_t>(d), 1);
  return reshape_to(node, to);
}

Outcome import_transpose(const NodeView& node) {
  if (node.in(0).kind != Kind::kConstant && node.in(0).kind != Kind::kActivation)
    return expect_activation(node, 0);
  const size_t rank = node.shape(0).size();
  std::vector<size_t> permutation;
  for (size_t d = rank; d-- > 0;) permutation.push_back(d);
  if (node.has_attribute("perm")) {
    const std::vector<int64_t> perm = node.integers("perm");
    std::vector<bool> seen(rank, false);
    permutation.clear();
    for (const int64_t p : perm) {
      if (p < 0 || static_cast<size_t>(p) >= rank || seen[static_cast<size_t>(p)])
        return Problem{"perm is no permutation", "export the model again"};
      seen[static_cast<size_t>(p)] = true;
      permutation.push_back(static_cast<size_t>(p));
    }
    if (permutation.size() != rank)
      return Problem{"perm has the wrong length", "export the model again"};
  }
  if (node.in(0).is_constant()) {
    node.importer->define_constant(node, transpose(*node.in(0).tensor, permutation));
    return {};
  }
  // Axes of extent 1 may move freely.
  std::vector<size_t> moved;
  for (const size_t p : permutation)
    if (node.shape(0)[p] != 1) moved.push_back(p);
  Shape to;
  for (const size_t p : permutation) to.push_back(node.shape(0)[p]);
  if (std::is_sorted(moved.begin(), moved.end()) && to == node.shape(0))
    return import_identity(node);
  return Problem{"an activation is transposed", "export the model in NCHW order"};
}

Outcome import_slice(const NodeView& node) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  const Tensor& data = *node.in(0).tensor;
  std::vector<int64_t> starts = node.integers("starts"), ends = node.integers("ends"),
                       axes = node.integers("axes"), steps;
  for (size_t i = 1; i < 5; ++i)
    if (Outcome problem = constant_integers(node, i,
                                            i == 1   ? &starts
                                            : i == 2 ? &ends
                                            : i == 3 ? &axes
                                                     : &steps))
      return problem;
  if (axes.empty()) axes = {0};
  if (data.shape.size() != 1 || starts.size() != 1 || ends.size() != 1 || axes.size() != 1 ||
      (axes[0] != 0 && axes[0] != -1) || (!steps.empty() && steps != std::vector<int64_t>{1}))
    return Problem{"only plain slices of one-dimensional constants are computed",
                   "fold constants before the export"};
  const int64_t extent = data.shape[0];
  const auto limit = [&](int64_t v) {
    return std::clamp<int64_t>(v < 0 ? v + extent : v, 0, extent);
  };
  std::vector<size_t> index;
  for (int64_t i = limit(starts[0]); i < limit(ends[0]); ++i)
    index.push_back(static_cast<size_t>(i));
  Tensor result;
  if (Outcome problem = fold_select(data, {static_cast<int64_t>(index.size())}, index, &result))
    return problem;
  node.importer->define_constant(node, std::move(result));
  return {};
}

// Zeros around the image wait for the convolution or pooling that takes them.
Outcome import_pad(const NodeView& node) {
  if (Outcome problem = expect_activation(node, 0, 4)) return problem;
  if (node.text("mode", "constant") != "constant")
    return Problem{"padding mode " + node.text("mode", "") + " is not supported", "pad with zeros"};
  std::vector<int64_t> pads = node.integers("pads"), axes{0, 1, 2, 3};
  if (Outcome problem = constant_integers(node, 1, &pads)) return problem;
  if (Outcome problem = constant_integers(node, 3, &axes)) return problem;
  const Operand& fill = node.in(2);
  if (node.real("value", 0.0F) != 0.0F ||
      (fill.kind != Kind::kAbsent &&
       (!fill.is_constant() || fill.tensor->elements() != 1 || fill.tensor->at(0) != 0.0)))
    return Problem{"padding with a value other than 0", "pad with zeros"};
  if (pads.size() != 2 * axes.size())
    return Problem{"pads has " + std::to_string(pads.size()) + " entries",
                   "export the model again"};
  Operand padded = node.in(0);
  uint32_t* const sides[4][2] = {{nullptr, nullptr},
                                 {nullptr, nullptr},
                                 {&padded.padding.top, &padded.padding.bottom},
                                 {&padded.padding.left, &padded.padding.right}};
  for (size_t i = 0; i < axes.size(); ++i) {
    size_t axis = 0;
    if (!normalise_axis(axes[i], 4, &axis))
      return Problem{"an axis is wrong", "export the model again"};
    for (size_t end = 0; end < 2; ++end) {
      const int64_t amount = pads[i + end * axes.size()];
      if (amount == 0) continue;
      if (amount < 0 || amount > 4096 || sides[axis][end] == nullptr)
        return Problem{"it crops, or pads batch or channels", "pad only height and width"};
      *sides[axis][end] += static_cast<uint32_t>(amount);
    }
  }
  node.importer->define(node, std::move(padded));
  return {};
}

constexpr OpRow kRows[] = {
    {"Identity", import_identity},   {"Dropout", import_dropout},
    {"Constant", import_constant},   {"ConstantOfShape", import_constant_of_shape},
    {"Shape", import_shape},         {"Gather", import_gather},
    {"Concat", import_concat},       {"Cast", import_cast},
    {"CastLike", import_cast_like},  {"Reshape", import_reshape},
    {"Flatten", import_flatten},     {"Squeeze", import_squeeze},
    {"Unsqueeze", import_unsqueeze}, {"Transpose", import_transpose},
    {"Slice", import_slice},         {"Pad", import_pad},
};

}  // namespace

std::span<const OpRow> shape_ops() { return kRows; }

}  // namespace mpq::convert
