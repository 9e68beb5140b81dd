// Numbers of an operator: scales, code ranges, residuals, and the proof that sums fit int32.
#include <bit>
#include <cmath>
#include <cstdlib>

#include "format/bits.h"
#include "format/validate_internal.h"

namespace mpq::format {
namespace {

constexpr int64_t kSumLimit = int64_t{1} << 31;
constexpr int32_t kMaxResidualShift = 31;
// Weights that exact proofs may look at in one file: only crafted files come near.
constexpr uint64_t kMaxExactWork = uint64_t{1} << 28;

struct NodeContext {
  Validation& v;
  const Node& node;
  NodeName who;

  const Tensor& in(size_t i) const { return v.in(node, i); }
  const Tensor& out(size_t i) const { return v.out(node, i); }
  const char* name(size_t i) const { return signature(node.op()).inputs[i].name; }
  bool has_in(size_t i) const { return operand(node.inputs, i) != kNoTensor; }
  bool has_out(size_t i) const { return operand(node.outputs, i) != kNoTensor; }
  const ConstantFacts& facts(size_t i) const { return v.constants[node.inputs[i]]; }
  CodeRange range(size_t i) const { return v.ranges[node.inputs[i]]; }
};

Checked require_scale(const NodeContext& c, const char* what, float x) {
  MPQ_REQUIRE(kNodeMultiplier, is_scale(x), c.who, ": ", what, " ", x,
              " is not normal, positive and at most 2^40");
  return Ok{};
}

Checked require_finite(const NodeContext& c, const char* what, float x) {
  MPQ_REQUIRE(kNodeBias, std::isfinite(x), c.who, ": ", what, " ", x, " is not finite");
  return Ok{};
}

// Codes of output i are within [lo, hi]; f32 and s32 have no codes.
Checked set_range(const NodeContext& c, size_t i, CodeRange range) {
  const Tensor& y = c.out(i);
  if (!is_code(y.dtype)) return Ok{};
  const bool valid =
      min_code(y.dtype) <= range.lo && range.lo <= range.hi && range.hi <= max_code(y.dtype);
  MPQ_REQUIRE(kNodeCodeRange, valid, c.who, ": codes ", range.lo, "..", range.hi, " of ",
              to_string(y.dtype));
  c.v.ranges[c.node.outputs[i]] = range;
  return Ok{};
}

Checked check_second(const NodeContext& c, float scale, float bias, CodeRange range) {
  if (!c.has_out(1)) return Ok{};
  MPQ_REQUIRE(kNodeSecond, is_code(c.out(0).dtype), c.who, ": second output beside ",
              to_string(c.out(0).dtype));
  MPQ_CHECK(require_scale(c, "second scale", scale));
  MPQ_CHECK(require_finite(c, "second bias", bias));
  return set_range(c, 1, range);
}

// Largest |code - zero point|.
int64_t max_distance(const Tensor& t, CodeRange range) {
  const auto zero = int64_t{t.quant.zero_point};
  return std::max(std::abs(range.lo - zero), std::abs(range.hi - zero));
}

// Largest code that a kernel may multiply: padding holds the zero point.
int64_t max_operand(const Tensor& t, CodeRange range) {
  return std::max(range.hi, t.quant.zero_point);
}

// Bound of |residual| in the accumulator domain for a factor.
int64_t residual_bound(int64_t distance, int64_t factor, int32_t shift) {
  return (distance * factor + (int64_t{1} << shift >> 1)) >> shift;
}

// max code * sum |w| + |acc_bias| + |residual| bounds the sum and every partial sum of it, in any
// order. First with the largest of each over all channels; channel by channel only when that is too
// coarse.
Checked check_accumulator(const NodeContext& c, int32_t shift) {
  const Tensor& weights = c.in(kWeights);
  const int64_t code = max_operand(c.in(kX), c.range(kX));
  const bool residual = c.has_in(kResidual) && shift >= 0;
  const int64_t distance = residual ? max_distance(c.in(kResidual), c.range(kResidual)) : 0;
  const auto bound = [&](int64_t row_sum, int64_t acc_bias, int64_t factor) {
    return code * row_sum + acc_bias + (residual ? residual_bound(distance, factor, shift) : 0);
  };
  const int64_t coarse =
      bound(c.facts(kWeights).largest, c.has_in(kAccBias) ? c.facts(kAccBias).largest : 0,
            residual ? c.facts(kResidualFactor).largest : 0);
  if (coarse < kSumLimit) return Ok{};

  const auto channels = static_cast<uint64_t>(weights.shape[0]);
  uint64_t elements = 0;
  checked_elements(weights.shape, &elements);
  const uint64_t row = elements / channels;
  c.v.exact_work += elements;
  MPQ_REQUIRE(kNodeAccumulator, c.v.exact_work <= kMaxExactWork, c.who, ": sums up to ", coarse,
              ", and too many weights to look closer");
  const auto abs_at = [&](size_t input, uint64_t i) {
    return std::abs(int64_t{s32_at(c.in(input), i)});
  };
  for (uint64_t o = 0; o < channels; ++o) {
    const int64_t sum =
        bound(sum_abs(weights, o * row, row), c.has_in(kAccBias) ? abs_at(kAccBias, o) : 0,
              residual ? abs_at(kResidualFactor, o) : 0);
    MPQ_REQUIRE(kNodeAccumulator, sum < kSumLimit, c.who, ": channel ", o, " can sum up to ", sum,
                ", not below 2^31");
  }
  return Ok{};
}

Checked check_residual(const NodeContext& c, const Requant& r) {
  const bool in_sum = r.residual_shift >= 0;
  MPQ_REQUIRE(kNodeResidual, r.residual_shift >= -1 && r.residual_shift <= kMaxResidualShift, c.who,
              ": residual shift ", r.residual_shift, " not in -1..", kMaxResidualShift);
  MPQ_REQUIRE(kNodeResidual, c.has_in(kResidualFactor) == in_sum, c.who, ": residual shift ",
              r.residual_shift, in_sum ? " without factors" : " with factors");
  MPQ_REQUIRE(kNodeResidual, c.has_in(kResidual) || !in_sum, c.who,
              ": residual factors without a residual");
  if (!c.has_in(kResidual)) return Ok{};
  MPQ_REQUIRE(kNodeResidual, c.in(kResidual).shape == c.out(0).shape, c.who,
              ": residual has shape ", to_string(c.in(kResidual).shape), ", output ",
              to_string(c.out(0).shape));
  return in_sum ? Checked(Ok{}) : require_scale(c, "residual scale", r.residual_scale);
}

Checked check_activation(const NodeContext& c, const Requant& r) {
  if (r.activation == Activation::kNone) return Ok{};
  MPQ_REQUIRE(kNodeActivation, c.out(0).dtype != DType::kS32, c.who, ": activation of sums in s32");
  MPQ_CHECK(require_scale(c, "activation scale", r.activation_scale));
  return require_finite(c, "activation bias", r.activation_bias);
}

Checked check_dense(const NodeContext& c, const Requant& r) {
  const Shape per_channel = {c.in(kWeights).shape[0]};
  for (const size_t i : {kMultiplier, kBias, kAccBias, kResidualFactor})
    MPQ_REQUIRE(kNodeChannels, !c.has_in(i) || c.in(i).shape == per_channel, c.who, ": ", c.name(i),
                " has shape ", to_string(c.in(i).shape), ", not ", per_channel[0]);
  MPQ_REQUIRE(kNodeMultiplier, c.facts(kMultiplier).scales, c.who,
              ": a multiplier is neither 0 nor normal, positive and at most 2^40");
  MPQ_REQUIRE(kNodeBias, c.facts(kBias).finite, c.who, ": a bias is not finite");
  MPQ_CHECK(check_activation(c, r));
  MPQ_CHECK(check_residual(c, r));
  MPQ_CHECK(check_accumulator(c, r.residual_shift));
  MPQ_CHECK(set_range(c, 0, {r.lo, r.hi}));
  return check_second(c, r.second_scale, r.second_bias, {r.second_lo, r.second_hi});
}

Checked check(const NodeContext& c, const ImageQuantizeAttrs&) {
  const auto largest = static_cast<int32_t>(c.facts(1).largest);
  MPQ_REQUIRE(kNodeTable, largest <= max_code(c.out(0).dtype), c.who, ": table entry ", largest,
              " is no code of ", to_string(c.out(0).dtype));
  return set_range(c, 0, {0, largest});
}

Checked check(const NodeContext& c, const QuantizeAttrs&) {
  const DType type = c.out(0).dtype;
  return set_range(c, 0, {min_code(type), max_code(type)});
}

Checked check(const NodeContext& c, const Conv2dAttrs& a) { return check_dense(c, a.requant); }
Checked check(const NodeContext& c, const LinearAttrs& a) { return check_dense(c, a.requant); }

Checked check(const NodeContext& c, const MaxPoolAttrs&) {
  const Tensor &x = c.in(0), &y = c.out(0);
  const bool same = x.dtype == y.dtype && x.quant.scale == y.quant.scale &&
                    x.quant.zero_point == y.quant.zero_point;
  MPQ_REQUIRE(kNodePoolQuant, same, c.who, ": ", to_string(x.dtype), " with scale ", x.quant.scale,
              " and zero point ", x.quant.zero_point, " becomes ", to_string(y.dtype), " with ",
              y.quant.scale, " and ", y.quant.zero_point);
  return set_range(c, 0, c.range(0));
}

Checked check(const NodeContext& c, const AvgPoolAttrs& a) {
  const Shape& x = c.in(0).shape;
  const int64_t window = a.kernel_h == 0 ? x[2] * x[3] : int64_t{a.kernel_h} * a.kernel_w;
  const int64_t largest = window * max_operand(c.in(0), c.range(0));
  MPQ_REQUIRE(kNodeAccumulator, largest < kSumLimit, c.who, ": can sum up to ", largest,
              ", not below 2^31");
  MPQ_CHECK(require_scale(c, "multiplier", a.multiplier));
  MPQ_CHECK(require_finite(c, "bias", a.bias));
  return set_range(c, 0, {a.lo, a.hi});
}

Checked check(const NodeContext& c, const AddAttrs& a) {
  MPQ_CHECK(require_scale(c, "scale of a", a.scale_a));
  MPQ_CHECK(require_scale(c, "scale of b", a.scale_b));
  MPQ_CHECK(require_finite(c, "bias", a.bias));
  MPQ_CHECK(set_range(c, 0, {a.lo, a.hi}));
  return check_second(c, a.second_scale, a.second_bias, {a.second_lo, a.second_hi});
}

Checked require_finite(const NodeContext& c, size_t i) {
  MPQ_REQUIRE(kNodeBias, !c.has_in(i) || c.facts(i).finite, c.who, ": ", c.name(i),
              " is not finite");
  return Ok{};
}

Checked check(const NodeContext& c, const EmbeddingAttrs& a) {
  const Tensor& words = c.in(kWords);
  const bool codes = is_code(words.dtype);
  MPQ_REQUIRE(kNodeRows, codes == c.has_in(kWordScale), c.who, ": words of ",
              to_string(words.dtype), codes ? " without" : " with", " scales");
  MPQ_REQUIRE(kNodeRows, !codes || c.in(kWordScale).shape == (Shape{words.shape[0]}), c.who, ": ",
              codes ? to_string(c.in(kWordScale).shape) : "", " scales for ", words.shape[0],
              " words");
  MPQ_REQUIRE(kNodeMultiplier, !codes || c.facts(kWordScale).scales, c.who,
              ": a scale of words is neither 0 nor normal, positive and at most 2^40");
  const int64_t last = int64_t{a.position_offset} + c.v.model.sequence_length;
  MPQ_REQUIRE(kNodeRows, c.in(kPositions).shape[0] >= last, c.who, ": ", c.in(kPositions).shape[0],
              " positions, ", last, " are needed");
  MPQ_REQUIRE(kNodeRows, c.has_in(kTypes) == c.has_in(kTypeRows), c.who,
              ": types and their rows do not come together");
  for (const size_t i : {kWords, kPositions, kTypeRows}) MPQ_CHECK(require_finite(c, i));
  return Ok{};
}

Checked check(const NodeContext& c, const LayerNormAttrs& a) {
  const bool own = c.has_in(kSecondGamma);
  MPQ_REQUIRE(kNodeRows, own == c.has_in(kSecondBeta) && (c.has_out(1) || !own), c.who,
              ": second_gamma, second_beta and the second output do not come together");
  for (const size_t i : {kGamma, kBeta, kSecondGamma, kSecondBeta}) {
    if (!c.has_in(i)) continue;
    MPQ_REQUIRE(kNodeChannels, c.in(i).shape == (Shape{c.in(0).shape[1]}), c.who, ": ", c.name(i),
                " has shape ", to_string(c.in(i).shape), ", not ", c.in(0).shape[1]);
    MPQ_CHECK(require_finite(c, i));
  }
  MPQ_CHECK(require_scale(c, "epsilon", a.epsilon));
  if (!c.has_out(1)) return Ok{};
  if (own) {
    MPQ_REQUIRE(kNodeRows, a.second_scale == 0.0F && a.second_bias == 0.0F, c.who,
                ": second scale ", a.second_scale, " and bias ", a.second_bias,
                " beside second_gamma");
  } else {
    MPQ_CHECK(require_scale(c, "second scale", a.second_scale));
    MPQ_CHECK(require_finite(c, "second bias", a.second_bias));
  }
  return set_range(c, 1, {a.second_lo, a.second_hi});
}

Checked check(const NodeContext& c, const AttentionAttrs& a) {
  const Tensor& qkv = c.in(kQkv);
  MPQ_REQUIRE(kNodeHeads, qkv.dtype == DType::kU8 && qkv.quant.zero_point == 128, c.who,
              ": qkv is ", to_string(qkv.dtype), " with zero point ", qkv.quant.zero_point,
              ", not u8 with 128");
  const int64_t heads = a.heads;
  for (const size_t i : {kScoreScale, kValueScale}) {
    MPQ_REQUIRE(kNodeHeads, c.in(i).shape == (Shape{heads}), c.who, ": ", c.name(i), " has shape ",
                to_string(c.in(i).shape), ", not ", heads);
    MPQ_REQUIRE(kNodeMultiplier, c.facts(i).scales, c.who, ": a ", c.name(i),
                " is neither 0 nor normal, positive and at most 2^40");
  }
  const Shape bias = {heads, 2 * int64_t{c.v.model.sequence_length} - 1};
  MPQ_REQUIRE(kNodeHeads, !c.has_in(kRelativeBias) || c.in(kRelativeBias).shape == bias, c.who,
              ": relative bias has shape ",
              c.has_in(kRelativeBias) ? to_string(c.in(kRelativeBias).shape) : "", ", not ",
              to_string(bias));
  MPQ_CHECK(require_finite(c, kRelativeBias));
  MPQ_CHECK(require_finite(c, "output bias", a.out_bias));
  return set_range(c, 0, {a.lo, a.hi});
}

Checked check(const NodeContext&, const SequencePoolAttrs&) { return Ok{}; }

}  // namespace

Checked check_attributes(Validation& v, const Node& node) {
  const NodeContext c{v, node, {v.model, node}};
  return std::visit([&](const auto& attrs) { return check(c, attrs); }, node.attrs);
}

}  // namespace mpq::format
