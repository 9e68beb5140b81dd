// Explicit quantisers: ONNX's QuantizeLinear and DequantizeLinear, also with a Clip between them,
// and QONNX's Quant.

#include <algorithm>
#include <cmath>

#include "converter/onnx/fold.h"
#include "converter/onnx/operands.h"

namespace mpq::convert {
namespace {

using Kind = Operand::Kind;
constexpr const char* kBlockRemedy = "quantise per tensor or per output channel";

// Scale, zero point and axis of a Q or DQ node.
struct LinearParameters {
  std::vector<float> scale;
  std::vector<int64_t> zero_point{0};
  int32_t zero_type = 0;  // element type, 0 when there is no zero point
  size_t axis = 0;
};

Outcome read_parameters(const NodeView& node, const Shape& shape, LinearParameters* result) {
  if (Outcome problem = expect_constant(node, 1)) return problem;
  if (node.integer("block_size", 0) != 0) return Problem{"block_size is set", kBlockRemedy};
  size_t axis = 0;
  const bool per_axis = normalise_axis(node.integer("axis", 1), shape.size(), &axis);
  if (Outcome problem =
          read_scale(*node.in(1).tensor, shape, per_axis ? static_cast<int64_t>(axis) : -1,
                     &result->scale, &result->axis))
    return problem;
  if (node.in(2).kind == Kind::kAbsent) return {};
  if (Outcome problem = expect_constant(node, 2)) return problem;
  const Tensor& zero = *node.in(2).tensor;
  if (!zero.is_integer() || zero.elements() != result->scale.size())
    return Problem{"the zero point has shape " + to_string(zero.shape) + ", the scale has " +
                       std::to_string(result->scale.size()) + " entries",
                   "export the model again"};
  result->zero_point = zero.integers;
  result->zero_type = zero.type;
  return {};
}

// Element types that may carry codes.
const ElementInfo* code_type(int32_t type) {
  const ElementInfo* info = element_info(type);
  return info != nullptr && info->is_integer && info->bits <= 8 && type != kBool ? info : nullptr;
}

Outcome import_quantize(const NodeView& node) {
  const Operand& x = node.in(0);
  if (!x.is_constant())
    if (Outcome problem = expect_activation(node, 0)) return problem;
  LinearParameters p;
  if (Outcome problem = read_parameters(node, node.shape(0), &p)) return problem;
  int32_t type =
      p.zero_type != 0 ? p.zero_type : static_cast<int32_t>(node.integer("output_dtype", kUint8));
  if (type == 0) type = kUint8;
  const ElementInfo* info = code_type(type);
  if (info == nullptr)
    return Problem{"it quantises to element type " + std::to_string(type),
                   "quantise to 8, 4 or 2 bit integers"};
  if (x.is_activation()) {
    if (p.scale.size() != 1)
      return Problem{
          "an activation is quantised with " + std::to_string(p.scale.size()) + " scales",
          "quantise activations per tensor"};
    Operand codes{.kind = Kind::kQuantised, .value = x.value, .padding = x.padding};
    codes.codes = {.scale = p.scale[0],
                   .zero_point = p.zero_point[0],
                   .rounded = true,
                   .linear = true,
                   .type = type};
    node.importer->define(node, std::move(codes));
    return {};
  }
  const Tensor& source = *x.tensor;
  if (source.is_integer()) return Problem{"integers are quantised", "export the model again"};
  Tensor result{.type = type, .shape = source.shape};
  result.integers.resize(source.reals.size());
  result.positions.resize(source.reals.size());
  const auto lowest = static_cast<double>(info->lowest()),
             highest = static_cast<double>(info->highest());
  for_each_with_axis(source.shape, p.axis, p.scale.size(), [&](size_t i, size_t entry) {
    const float position = source.reals[i] / p.scale[entry];
    const double code = double{std::nearbyint(position)} + static_cast<double>(p.zero_point[entry]);
    result.positions[i] = position + static_cast<float>(p.zero_point[entry]);
    result.integers[i] =
        std::isnan(code) ? info->lowest() : static_cast<int64_t>(std::clamp(code, lowest, highest));
  });
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome dequantize_activation(const NodeView& node, const Operand& x) {
  const auto& codes = x.codes;
  if (!codes.linear)
    return Problem{"LSQ's codes end in DequantizeLinear", "use QuantizeLinear before it"};
  if (Outcome problem = expect_constant(node, 1)) return problem;
  const Tensor& scale = *node.in(1).tensor;
  int64_t zero_point = 0;
  if (node.in(2).is_constant() && node.in(2).tensor->elements() == 1 &&
      node.in(2).tensor->is_integer())
    zero_point = node.in(2).tensor->integers[0];
  if (scale.is_integer() || scale.reals.size() != 1 || scale.reals[0] != codes.scale ||
      zero_point != codes.zero_point)
    return Problem{
        "DequantizeLinear and the QuantizeLinear before it have different scales or zero points",
        "use the same scale and zero point in both"};
  const ElementInfo& info = *element_info(codes.type);
  return finish_activation(node, x, std::max(codes.lo.value_or(info.lowest()), info.lowest()),
                           std::min(codes.hi.value_or(info.highest()), info.highest()));
}

Outcome import_dequantize(const NodeView& node) {
  const Operand& x = node.in(0);
  if (x.kind == Kind::kQuantised) return dequantize_activation(node, x);
  if (Outcome problem = expect_constant(node, 0)) return problem;
  const Tensor& source = *x.tensor;
  if (!source.is_integer()) return Problem{"its input is not integer", "export the model again"};
  LinearParameters p;
  if (Outcome problem = read_parameters(node, source.shape, &p)) return problem;
  if (source.type == kInt32 || source.type == kInt16 ||
      source.type == kUint16) {  // biases: real numbers are enough
    Tensor result{.type = kFloat, .shape = source.shape};
    result.reals.resize(source.integers.size());
    for_each_with_axis(source.shape, p.axis, p.scale.size(), [&](size_t i, size_t entry) {
      result.reals[i] = static_cast<float>(
          static_cast<double>(source.integers[i] - p.zero_point[entry]) * p.scale[entry]);
    });
    node.importer->define_constant(node, std::move(result));
    return {};
  }
  const ElementInfo* info = code_type(source.type);
  if (info == nullptr)
    return Problem{std::string("it dequantises ") + element_info(source.type)->name,
                   "use 8, 4 or 2 bit weights and 32-bit biases"};
  const auto [lo, hi] = source.clip.value_or(std::pair{info->lowest(), info->highest()});
  Tensor result;
  if (Outcome problem = weight_grid(source.shape, source.integers, source.positions, p.zero_point,
                                    p.scale, p.axis, lo, hi, &result))
    return problem;
  node.importer->define_constant(node, std::move(result));
  return {};
}

// Quant(x, scale, zero_point, bits): clip(x / scale + zero_point) is rounded; with integer bounds
// and zero point that is the same as rounding first.
Outcome import_quant(const NodeView& node) {
  for (size_t i = 1; i < 4; ++i)
    if (Outcome problem = expect_constant(node, i)) return problem;
  const std::string mode = node.text("rounding_mode", "ROUND");
  if (mode != "ROUND" && mode != "HALF_EVEN" && mode != "round" && mode != "half_even")
    return Problem{"rounding mode " + mode + " is not supported",
                   "train and export with rounding mode ROUND (half to even)"};
  const Tensor &zero = *node.in(2).tensor, &width = *node.in(3).tensor;
  if (width.elements() != 1 || width.at(0) != std::floor(width.at(0)) || width.at(0) < 1 ||
      width.at(0) > 8)
    return Problem{"the bit width is no single integer in 1..8", "quantise to 8, 4 or 2 bits"};
  std::vector<int64_t> zero_points;
  for (size_t i = 0; i < zero.elements(); ++i) {
    if (zero.at(i) != std::floor(zero.at(i)) || std::abs(zero.at(i)) > 256.0)
      return Problem{"a zero point is no integer code", "train with integer zero points"};
    zero_points.push_back(static_cast<int64_t>(zero.at(i)));
  }
  if (zero_points.empty() || std::count(zero_points.begin(), zero_points.end(), zero_points[0]) !=
                                 static_cast<ptrdiff_t>(zero_points.size()))
    return Problem{"zero points differ between channels", "use one zero point"};
  const bool is_signed = node.integer("signed", 1) != 0, narrow = node.integer("narrow", 0) != 0;
  const int64_t levels = int64_t{1} << static_cast<int>(width.at(0));
  const int64_t lo = is_signed ? -levels / 2 + (narrow ? 1 : 0) : 0;
  const int64_t hi = is_signed ? levels / 2 - 1 : levels - 1 - (narrow ? 1 : 0);

  const Operand& x = node.in(0);
  if (!x.is_constant())
    if (Outcome problem = expect_activation(node, 0)) return problem;
  std::vector<float> scale;
  size_t axis = 0;
  if (Outcome problem = read_scale(*node.in(1).tensor, node.shape(0), -1, &scale, &axis))
    return problem;
  if (x.is_activation()) {
    if (scale.size() != 1)
      return Problem{"an activation is quantised with " + std::to_string(scale.size()) + " scales",
                     "quantise activations per tensor"};
    Operand codes{.kind = Kind::kQuantised, .value = x.value, .padding = x.padding};
    codes.codes = {.scale = scale[0], .zero_point = zero_points[0]};
    return finish_activation(node, codes, lo, hi);
  }
  const Tensor& source = *x.tensor;
  if (source.is_integer()) return Problem{"integers are quantised", "export the model again"};
  std::vector<int64_t> codes(source.reals.size());
  std::vector<float> positions(source.reals.size());
  for_each_with_axis(source.shape, axis, scale.size(), [&](size_t i, size_t entry) {
    positions[i] = source.reals[i] / scale[entry] + static_cast<float>(zero_points[0]);
    codes[i] = static_cast<int64_t>(
        std::nearbyint(std::clamp(positions[i], static_cast<float>(lo), static_cast<float>(hi))));
  });
  Tensor result;
  if (Outcome problem = weight_grid(source.shape, codes, positions, {zero_points[0]}, scale, axis,
                                    lo, hi, &result))
    return problem;
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome refuse_quantiser(const NodeView&) {
  return Problem{"this quantiser has no integer codes of 8, 4 or 2 bits",
                 "use Quant with 8, 4 or 2 bits"};
}

constexpr OpRow kRows[] = {
    {"QuantizeLinear", import_quantize},
    {"DequantizeLinear", import_dequantize},
    {"Quant", import_quant},
    {"IntQuant", import_quant},
    {"BipolarQuant", refuse_quantiser},
    {"Trunc", refuse_quantiser},
    {"FloatQuant", refuse_quantiser},
};

}  // namespace

std::span<const OpRow> quantisation_ops() { return kRows; }

}  // namespace mpq::convert
