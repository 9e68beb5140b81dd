// Element-wise arithmetic: residual additions, per-channel affine maps, constants, and the fake
// quantisers that training code spells out.
//
// LSQ's Div(x, s) -> Clip -> Round -> Mul(s) is followed step by step: an activation becomes
// kQuantised, a constant keeps an LsqStage beside its numbers. The straight-through residue of an
// export, (p - q) + q, stands for p whatever p and q are. It is rewritten, not computed: in float
// it may be off by one unit in the last place, which is a different code.

#include <algorithm>
#include <cmath>
#include <limits>

#include "converter/onnx/fold.h"
#include "converter/onnx/operands.h"

namespace mpq::convert {
namespace {

using Kind = Operand::Kind;
constexpr const char* kLsqRemedy =
    "write the quantiser as Div(x, s), Clip(lo, hi), Round, Mul(s) with one s, or as "
    "QuantizeLinear/DequantizeLinear";

bool both_constant(const NodeView& node) {
  return node.in(0).is_constant() && node.in(1).is_constant();
}

// Integers wrap as two's complement, as every runtime does.
template <typename Operation>
int64_t wrapping(int64_t a, int64_t b, Operation operation) {
  return static_cast<int64_t>(operation(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
}

Outcome fold(const NodeView& node, BinaryReal real, BinaryInteger integer, Tensor* result) {
  return fold_binary(*node.in(0).tensor, *node.in(1).tensor, real, integer, result);
}

// The residue of a straight-through estimator: Add(Sub(p, q), q) in either order. True when the
// node has become an alias of p.
bool rewrite_residue(const NodeView& node) {
  Importer& importer = *node.importer;
  for (int i = 0; i < 2; ++i) {
    const onnx::NodeProto* sub = importer.producer_of(node.proto->input(i));
    if (sub == nullptr || sub->op_type() != "Sub" || sub->input_size() != 2) continue;
    if (importer.canonical(sub->input(1)) != importer.canonical(node.proto->input(1 - i))) continue;
    importer.alias(node, sub->input(0));
    return true;
  }
  return false;
}

Outcome import_add(const NodeView& node) {
  if (node.inputs() != 2) return Problem{"it has not two inputs", "export the model again"};
  if (rewrite_residue(node)) return {};
  const Operand &a = node.in(0), &b = node.in(1);
  if (both_constant(node)) {
    Tensor result;
    if (Outcome problem = fold(
            node, [](float x, float y) { return x + y; },
            [](int64_t x, int64_t y) { return wrapping(x, y, std::plus<uint64_t>()); }, &result))
      return problem;
    node.importer->define_constant(node, std::move(result));
    return {};
  }
  for (size_t i = 0; i < 2; ++i)
    if (node.in(i).is_activation() && node.in(1 - i).is_constant())
      return emit_affine(node, node.in(i), nullptr, node.in(1 - i).tensor.get());
  for (size_t i = 0; i < 2; ++i) {
    if (Outcome problem = expect_activation(node, i)) return problem;
    if (Outcome problem = expect_no_padding(node, i)) return problem;
  }
  if (node.shape(0) != node.shape(1))
    return Problem{"activations of shapes " + to_string(node.shape(0)) + " and " +
                       to_string(node.shape(1)) + " are added by broadcasting",
                   "add tensors of one shape"};
  return node.importer->emit(node, Add{}, {a.value, b.value});
}

Outcome import_sub(const NodeView& node) {
  if (node.inputs() != 2) return Problem{"it has not two inputs", "export the model again"};
  if (both_constant(node)) {
    Tensor result;
    if (Outcome problem = fold(
            node, [](float x, float y) { return x - y; },
            [](int64_t x, int64_t y) { return wrapping(x, y, std::minus<uint64_t>()); }, &result))
      return problem;
    node.importer->define_constant(node, std::move(result));
    return {};
  }
  if (node.in(0).is_activation() && node.in(1).is_constant() && !node.in(1).tensor->is_integer()) {
    Tensor negated = *node.in(1).tensor;
    negated.grid = nullptr;
    for (float& v : negated.reals) v = -v;
    return emit_affine(node, node.in(0), nullptr, &negated);
  }
  node.importer->define(
      node, {.kind = Kind::kDifference});  // a problem only if anything but a residue reads it
  return {};
}

// Ends LSQ on an activation: Mul of rounded codes by the scale that Div divided by.
Outcome finish_lsq(const NodeView& node, const Operand& x, const Operand& factor) {
  const auto& codes = x.codes;
  if (codes.linear || !factor.is_constant())
    return Problem{"codes are multiplied", "end QuantizeLinear with DequantizeLinear"};
  const Tensor& scale = *factor.tensor;
  if (scale.is_integer() || scale.reals.size() != 1 || scale.reals[0] != codes.scale)
    return Problem{"an activation was divided by " + std::to_string(codes.scale) +
                       " and is multiplied by something else",
                   kLsqRemedy};
  if (!codes.rounded || !codes.lo || !codes.hi)
    return Problem{
        std::string("a quantiser has no ") + (codes.rounded ? "Clip with two bounds" : "Round"),
        kLsqRemedy};
  return finish_activation(node, x, *codes.lo, *codes.hi);
}

// The same for weights: `stage` is the source divided, clipped and rounded; its numbers are the
// codes.
Outcome finish_lsq_weights(const NodeView& node, const Tensor& stage, const Tensor& factor) {
  const LsqStage& lsq = *stage.lsq;
  std::vector<float> scale;
  size_t axis = 0;
  if (Outcome problem = read_scale(factor, stage.shape, -1, &scale, &axis)) return problem;
  if (scale != lsq.scale || (scale.size() > 1 && axis != lsq.axis))
    return Problem{"weights were divided by one scale and are multiplied by another", kLsqRemedy};
  if (!lsq.lo || !lsq.hi || std::floor(*lsq.lo) != *lsq.lo || std::floor(*lsq.hi) != *lsq.hi)
    return Problem{"the quantiser of weights has no Clip with two integer bounds", kLsqRemedy};
  std::vector<int64_t> codes(stage.reals.size());
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<int64_t>(stage.reals[i]);
  Tensor result;
  if (Outcome problem =
          weight_grid(stage.shape, codes, {}, {0}, scale, axis, static_cast<int64_t>(*lsq.lo),
                      static_cast<int64_t>(*lsq.hi), &result))
    return problem;
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome import_mul(const NodeView& node) {
  if (node.inputs() != 2) return Problem{"it has not two inputs", "export the model again"};
  if (both_constant(node)) {
    for (size_t i = 0; i < 2; ++i) {
      const Tensor& stage = *node.in(i).tensor;
      if (stage.lsq && stage.lsq->rounded)
        return finish_lsq_weights(node, stage, *node.in(1 - i).tensor);
    }
    Tensor result;
    if (Outcome problem = fold(
            node, [](float x, float y) { return x * y; },
            [](int64_t x, int64_t y) { return wrapping(x, y, std::multiplies<uint64_t>()); },
            &result))
      return problem;
    node.importer->define_constant(node, std::move(result));
    return {};
  }
  for (size_t i = 0; i < 2; ++i) {
    if (node.in(i).kind == Kind::kQuantised) return finish_lsq(node, node.in(i), node.in(1 - i));
    if (node.in(i).is_activation() && node.in(1 - i).is_constant())
      return emit_affine(node, node.in(i), node.in(1 - i).tensor.get(), nullptr);
  }
  return Problem{"two activations are multiplied",
                 "gates and attention (squeeze-and-excite, SiLU) are not supported"};
}

// Whether some reader of the node's output continues a quantiser.
bool starts_quantiser(const NodeView& node) {
  for (const char* const op : {"Clip", "Round", "Min", "Max", "Relu"})
    if (node.importer->is_read_by(node.proto->output(0), op)) return true;
  return false;
}

Outcome import_div(const NodeView& node) {
  if (node.inputs() != 2) return Problem{"it has not two inputs", "export the model again"};
  if (both_constant(node)) {
    const Tensor &x = *node.in(0).tensor, &y = *node.in(1).tensor;
    if (y.is_integer() && std::count(y.integers.begin(), y.integers.end(), 0) > 0)
      return Problem{"a constant is divided by 0", "export the model again"};
    Tensor result;
    const auto divide = [](int64_t a, int64_t b) {
      return b == -1 ? wrapping(0, a, std::minus<uint64_t>()) : a / b;
    };
    if (Outcome problem = fold(
            node, [](float a, float b) { return a / b; }, divide, &result))
      return problem;
    auto stage = std::make_shared<LsqStage>();
    if (!x.is_integer() && result.shape == x.shape && starts_quantiser(node)) {
      if (Outcome problem = read_scale(y, x.shape, -1, &stage->scale, &stage->axis)) return problem;
      result.lsq = std::move(stage);
    }
    node.importer->define_constant(node, std::move(result));
    return {};
  }
  if (Outcome problem = expect_activation(node, 0)) return problem;
  if (Outcome problem = expect_constant(node, 1)) return problem;
  const Operand& x = node.in(0);
  const Tensor& divisor = *node.in(1).tensor;
  if (divisor.is_integer())
    return Problem{"an activation is divided by integers", "export the model again"};
  if (!starts_quantiser(node)) {
    Tensor inverse = divisor;
    for (float& v : inverse.reals) v = 1.0F / v;
    return emit_affine(node, x, &inverse, nullptr);
  }
  std::vector<float> scale;
  size_t axis = 0;
  if (Outcome problem = read_scale(divisor, node.shape(0), -1, &scale, &axis)) return problem;
  if (scale.size() != 1)
    return Problem{"an activation is quantised with " + std::to_string(scale.size()) + " scales",
                   "quantise activations per tensor"};
  Operand codes{.kind = Kind::kQuantised, .value = x.value, .padding = x.padding};
  codes.codes.scale = scale[0];
  node.importer->define(node, std::move(codes));
  return {};
}

// A unary function of a constant, with what it means for a quantiser in progress.
Tensor map_constant(const Tensor& source, float (*real)(float), int64_t (*integer)(int64_t)) {
  Tensor result{.type = source.type, .shape = source.shape};
  for (const float v : source.reals) result.reals.push_back(real(v));
  for (const int64_t v : source.integers) result.integers.push_back(integer(v));
  return result;
}

Outcome import_round(const NodeView& node) {
  const Operand& x = node.in(0);
  if (x.is_constant()) {
    Tensor result = map_constant(
        *x.tensor, [](float v) { return std::nearbyint(v); }, [](int64_t v) { return v; });
    if (x.tensor->lsq) {
      auto stage = std::make_shared<LsqStage>(*x.tensor->lsq);
      stage->rounded = true;
      result.lsq = std::move(stage);
    }
    node.importer->define_constant(node, std::move(result));
    return {};
  }
  if (x.kind != Kind::kQuantised || x.codes.linear)
    return Problem{"rounding outside a quantiser", kLsqRemedy};
  Operand rounded = x;
  rounded.codes.rounded = true;
  node.importer->define(node, std::move(rounded));
  return {};
}

Outcome clamp_constant(const NodeView& node, const Tensor& x, std::optional<double> lo,
                       std::optional<double> hi) {
  Tensor result{.type = x.type, .shape = x.shape, .clip = x.clip};
  for (const float v : x.reals) {
    const float above = lo ? std::max(v, static_cast<float>(*lo)) : v;
    result.reals.push_back(hi ? std::min(above, static_cast<float>(*hi)) : above);
  }
  if (x.is_integer()) {
    const ElementInfo& info = *element_info(x.type);
    const int64_t lowest = info.bits < 64 ? info.lowest() : INT64_MIN,
                  highest = info.bits < 64 ? info.highest() : INT64_MAX;
    const int64_t from = lo ? std::max(lowest, static_cast<int64_t>(*lo)) : lowest,
                  to = hi ? std::min(highest, static_cast<int64_t>(*hi)) : highest;
    if (from > to) return Problem{"it clips to an empty range", "export the model again"};
    for (const int64_t v : x.integers) result.integers.push_back(std::clamp(v, from, to));
    result.clip = {from, to};
  }
  if (x.lsq) {
    auto stage = std::make_shared<LsqStage>(*x.lsq);
    if (lo && std::isfinite(*lo))
      stage->lo = std::max(stage->lo.value_or(static_cast<float>(*lo)), static_cast<float>(*lo));
    if (hi && std::isfinite(*hi))
      stage->hi = std::min(stage->hi.value_or(static_cast<float>(*hi)), static_cast<float>(*hi));
    result.lsq = std::move(stage);
  }
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome clamp(const NodeView& node, const Operand& x, std::optional<double> lo,
              std::optional<double> hi) {
  if (lo && hi && !(*lo <= *hi))
    return Problem{
        "it clips to the empty range " + std::to_string(*lo) + ".." + std::to_string(*hi),
        "export the model again"};
  if (x.is_constant()) return clamp_constant(node, *x.tensor, lo, hi);
  if (x.kind == Kind::kQuantised) return narrow_codes(node, x, lo, hi);
  if (!x.is_activation()) return Problem{"its input is no activation", "export the model again"};
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double from = lo.value_or(-kInfinity), to = hi.value_or(kInfinity);
  const Padding padding = x.padding;
  if (padding.any() && (from > 0.0 || to < 0.0)) return expect_no_padding(node, 0);
  // Bounds that no float reaches, as exporters write for "none".
  const bool bounded = to < double{std::numeric_limits<float>::max()};
  if (from == 0.0 && !bounded) return node.importer->emit(node, Relu{}, {x.value}, padding);
  return node.importer->emit(
      node, Clip{.lo = static_cast<float>(from), .hi = static_cast<float>(to)}, {x.value}, padding);
}

// A scalar constant operand; absent gives nothing.
Outcome read_bound(const NodeView& node, size_t i, std::optional<double>* bound) {
  if (node.in(i).kind == Kind::kAbsent) return {};
  if (Outcome problem = expect_constant(node, i)) return problem;
  if (node.in(i).tensor->elements() != 1)
    return Problem{"a bound is no scalar", "clip with one bound for the whole tensor"};
  *bound = node.in(i).tensor->at(0);
  return {};
}

Outcome import_clip(const NodeView& node) {
  std::optional<double> lo, hi;
  if (node.opset < 11) {
    if (node.has_attribute("min")) lo = node.real("min", 0.0F);
    if (node.has_attribute("max")) hi = node.real("max", 0.0F);
  } else {
    if (Outcome problem = read_bound(node, 1, &lo)) return problem;
    if (Outcome problem = read_bound(node, 2, &hi)) return problem;
  }
  return clamp(node, node.in(0), lo, hi);
}

// Min and Max with one scalar constant are half a Clip.
Outcome import_half_clip(const NodeView& node, bool is_max) {
  if (node.inputs() != 2) return Problem{"it has not two inputs", "use Clip"};
  const size_t bound = node.in(1).is_constant() ? 1 : 0;
  std::optional<double> value;
  if (Outcome problem = read_bound(node, bound, &value)) return problem;
  return is_max ? clamp(node, node.in(1 - bound), value, {})
                : clamp(node, node.in(1 - bound), {}, value);
}
Outcome import_max(const NodeView& node) { return import_half_clip(node, true); }
Outcome import_min(const NodeView& node) { return import_half_clip(node, false); }

Outcome fold_unary(const NodeView& node, float (*real)(float), int64_t (*integer)(int64_t)) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  if (node.in(0).tensor->lsq) return Problem{"arithmetic inside a quantiser", kLsqRemedy};
  node.importer->define_constant(node, map_constant(*node.in(0).tensor, real, integer));
  return {};
}
Outcome import_sqrt(const NodeView& node) {
  return fold_unary(
      node, [](float v) { return std::sqrt(v); }, [](int64_t v) { return v; });
}
Outcome import_abs(const NodeView& node) {
  return fold_unary(
      node, [](float v) { return std::abs(v); },
      [](int64_t v) { return v < 0 ? wrapping(0, v, std::minus<uint64_t>()) : v; });
}
Outcome import_floor(const NodeView& node) {
  return fold_unary(
      node, [](float v) { return std::floor(v); }, [](int64_t v) { return v; });
}

// Old exports write residual additions as Sum.
Outcome import_sum(const NodeView& node) {
  return node.inputs() == 1 ? node.importer->alias(node, node.proto->input(0)),
         Outcome()          : import_add(node);
}

constexpr OpRow kRows[] = {
    {"Add", import_add}, {"Sum", import_sum},     {"Sub", import_sub},   {"Mul", import_mul},
    {"Div", import_div}, {"Round", import_round}, {"Clip", import_clip}, {"Max", import_max},
    {"Min", import_min}, {"Sqrt", import_sqrt},   {"Abs", import_abs},   {"Floor", import_floor},
};

}  // namespace

std::span<const OpRow> arithmetic_ops() { return kRows; }

}  // namespace mpq::convert
