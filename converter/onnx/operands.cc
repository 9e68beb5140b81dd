#include "converter/onnx/operands.h"

#include <cmath>

#include "converter/onnx/fold.h"

namespace mpq::convert {
namespace {

const char* describe(const Operand& operand) {
  switch (operand.kind) {
    case Operand::Kind::kAbsent:
      return "missing";
    case Operand::Kind::kConstant:
      return "a constant";
    case Operand::Kind::kActivation:
      return "an activation";
    case Operand::Kind::kQuantised:
      return "codes of an unfinished quantiser";
    case Operand::Kind::kDifference:
      return "a difference of activations";
    case Operand::Kind::kSymbol:
      return "computed from tokens";
    case Operand::Kind::kPoison:
      return "unknown";
  }
  return "unknown";
}

// The entries of a per-channel constant as the channels of x, or empty when it is something else.
std::vector<float> per_channel(const Tensor& tensor, const Shape& x) {
  if (tensor.is_integer() || tensor.grid) return {};
  const auto channels = static_cast<size_t>(x[1]);
  if (tensor.reals.size() == 1) return std::vector<float>(channels, tensor.reals[0]);
  Shape squeezed = tensor.shape;  // [C] for a matrix; [C,1,1] for images, right-aligned
  while (squeezed.size() > x.size() - 1 && squeezed.front() == 1) squeezed.erase(squeezed.begin());
  Shape want(x.size() - 1, 1);
  want[0] = x[1];
  return squeezed == want ? tensor.reals : std::vector<float>();
}

}  // namespace

Outcome expect_activation(const NodeView& node, size_t i, size_t rank) {
  const Operand& operand = node.in(i);
  if (!operand.is_activation()) {
    const bool codes = operand.kind == Operand::Kind::kQuantised;
    return Problem{
        "input " + std::to_string(i) + " is " + describe(operand) + ", expected an activation",
        codes ? "finish the quantiser (Quantize, optional Clip, Dequantize; or Div, Clip, Round, "
                "Mul) before this node"
              : "export the model again"};
  }
  if (rank != 0 && node.shape(i).size() != rank)
    return Problem{"input " + std::to_string(i) + " has shape " + to_string(node.shape(i)) +
                       ", expected rank " + std::to_string(rank),
                   "only 2-D convolutional networks are supported: reshape before this node"};
  return {};
}

Outcome expect_constant(const NodeView& node, size_t i) {
  if (node.in(i).is_constant()) return {};
  return Problem{
      "input " + std::to_string(i) + " is " + describe(node.in(i)) + ", expected a constant",
      "export the model with its parameters as initialisers"};
}

Outcome expect_no_padding(const NodeView& node, size_t i) {
  if (!node.in(i).padding.any()) return {};
  return Problem{"a Pad node before this operator cannot be merged",
                 "pad in the convolution or pooling itself"};
}

Outcome constant_integers(const NodeView& node, size_t i, std::vector<int64_t>* values) {
  if (node.in(i).kind == Operand::Kind::kAbsent) return {};
  if (Outcome problem = expect_constant(node, i)) return problem;
  if (!node.in(i).tensor->is_integer())
    return Problem{"input " + std::to_string(i) + " is not an integer tensor",
                   "export the model again"};
  *values = node.in(i).tensor->integers;
  return {};
}

size_t element_count(const Shape& shape) {
  size_t count = 1;
  for (const int64_t dim : shape) count *= static_cast<size_t>(dim);
  return count;
}

bool normalise_axis(int64_t axis, size_t rank, size_t* result) {
  const auto extent = static_cast<int64_t>(rank);
  if (axis < -extent || axis >= extent) return false;
  *result = static_cast<size_t>(axis < 0 ? axis + extent : axis);
  return true;
}

Outcome finish_activation(const NodeView& node, const Operand& codes, int64_t lo, int64_t hi) {
  QuantSpec spec;
  if (Outcome problem = activation_spec(codes.codes.scale, codes.codes.zero_point, lo, hi, &spec))
    return problem;
  const ValueId value = node.importer->fake_quant(node, codes.value, spec);
  node.importer->define(
      node, {.kind = Operand::Kind::kActivation, .value = value, .padding = codes.padding});
  return {};
}

Outcome narrow_codes(const NodeView& node, const Operand& operand, std::optional<double> lo,
                     std::optional<double> hi) {
  Operand narrowed = operand;
  for (const auto& bound : {lo, hi})
    if (bound && (std::isnan(*bound) || (std::isfinite(*bound) && (*bound != std::floor(*bound) ||
                                                                   std::abs(*bound) > 65536.0))))
      return Problem{"a quantiser clips to " + std::to_string(*bound) + ", which is no code",
                     "clip to integers, e.g. 0 and 15"};
  if (lo && std::isfinite(*lo))
    narrowed.codes.lo = std::max(narrowed.codes.lo.value_or(INT64_MIN), static_cast<int64_t>(*lo));
  if (hi && std::isfinite(*hi))
    narrowed.codes.hi = std::min(narrowed.codes.hi.value_or(INT64_MAX), static_cast<int64_t>(*hi));
  node.importer->define(node, std::move(narrowed));
  return {};
}

Outcome emit_affine(const NodeView& node, const Operand& x, const Tensor* factor,
                    const Tensor* offset) {
  Importer& importer = *node.importer;
  Graph& graph = importer.graph();
  const Shape shape = graph.values[x.value].shape;
  if (shape.size() < 2 || x.padding.any())
    return Problem{"arithmetic on a tensor of shape " + to_string(shape) + " or behind a Pad",
                   "use convolution, addition and activation nodes"};
  const auto channels = static_cast<size_t>(shape[1]);
  const std::vector<float> gain =
      factor != nullptr ? per_channel(*factor, shape) : std::vector<float>(channels, 1.0F);
  const std::vector<float> shift =
      offset != nullptr ? per_channel(*offset, shape) : std::vector<float>(channels, 0.0F);
  if (gain.empty() || shift.empty())
    return Problem{"the constant of shape " +
                       to_string((factor != nullptr ? factor : offset)->shape) +
                       " is neither a scalar nor one value per channel of " + to_string(shape),
                   "use per-channel constants"};
  const Shape per{shape[1]};
  const ValueId scale = importer.constant(node.name + "_gain", per, gain),
                bias = importer.constant(node.name + "_shift", per, shift);
  const ValueId mean =
      importer.constant(node.name + "_mean", per, std::vector<float>(channels, 0.0F));
  const ValueId variance =
      importer.constant(node.name + "_variance", per, std::vector<float>(channels, 1.0F));
  return importer.emit(node, BatchNorm{.epsilon = 0.0F}, {x.value, scale, bias, mean, variance});
}

}  // namespace mpq::convert
