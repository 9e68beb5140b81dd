// Shape rules. All arithmetic is in int64 on factors below 2^31, checked before any division.
#include "format/checks.h"
#include "format/signature.h"
#include "format/validate.h"

namespace mpq::format {
namespace {

constexpr int64_t kMaxWindow = 32768;

struct Axis {
  int64_t size, kernel, stride, dilation, pad_before, pad_after;
};

// Positions of a window along an axis.
Result<int64_t> window_positions(const NodeName& who, const Axis& a) {
  const auto in_range = [](int64_t n) { return n >= 1 && n <= kMaxWindow; };
  MPQ_REQUIRE(kNodeGeometry, in_range(a.kernel) && in_range(a.stride) && in_range(a.dilation), who,
              ": kernel ", a.kernel, ", stride ", a.stride, ", dilation ", a.dilation,
              " not in 1..", kMaxWindow);
  const int64_t extent = (a.kernel - 1) * a.dilation + 1;
  MPQ_REQUIRE(kNodeGeometry, a.pad_before < extent && a.pad_after < extent, who, ": padding ",
              a.pad_before, " and ", a.pad_after, " not less than the kernel's extent ", extent);
  const int64_t padded = a.size + a.pad_before + a.pad_after;
  MPQ_REQUIRE(kNodeGeometry, extent <= padded, who, ": kernel extent ", extent,
              " exceeds the padded input ", padded);
  return (padded - extent) / a.stride + 1;
}

// The shape functions see operands that exist.
struct Inputs {
  const Model& model;
  const Node& node;
  NodeName who;

  bool has(size_t i) const { return operand(node.inputs, i) != kNoTensor; }
  const Shape& shape(size_t i) const { return model.tensors[node.inputs[i]].shape; }
  Checked rank(size_t i, size_t wanted) const {
    MPQ_REQUIRE(kNodeShape, shape(i).size() == wanted, who, ": ", name(i), " has shape ",
                to_string(shape(i)), ", not rank ", wanted);
    return Ok{};
  }
  const char* name(size_t i) const { return signature(node.op()).inputs[i].name; }
};

Result<Shape> infer(const Inputs& in, const ImageQuantizeAttrs&) {
  MPQ_CHECK(in.rank(0, 4));
  const Shape& x = in.shape(0);
  MPQ_REQUIRE(kNodeShape, in.shape(1) == (Shape{x[3], 256}), in.who, ": table has shape ",
              to_string(in.shape(1)), ", not ", to_string(Shape{x[3], 256}));
  return Shape{x[0], x[3], x[1], x[2]};
}

Result<Shape> infer(const Inputs& in, const QuantizeAttrs&) { return in.shape(0); }

Result<Shape> infer(const Inputs& in, const Conv2dAttrs& a) {
  MPQ_CHECK(in.rank(kX, 4));
  MPQ_CHECK(in.rank(kWeights, 4));
  const Shape &x = in.shape(kX), &w = in.shape(kWeights);
  const int64_t groups = a.groups;
  MPQ_REQUIRE(kNodeGroups, groups >= 1 && x[1] % groups == 0 && w[0] % groups == 0, in.who, ": ",
              groups, " groups do not divide ", x[1], " input and ", w[0], " output channels");
  MPQ_REQUIRE(kNodeShape, w[1] * groups == x[1], in.who, ": weights ", to_string(w), " in ", groups,
              " groups take ", w[1] * groups, " channels, x has ", x[1]);
  MPQ_TRY(const int64_t oh, window_positions(in.who, {x[2], w[2], a.stride_h, a.dilation_h,
                                                      a.pad_top, a.pad_bottom}));
  MPQ_TRY(const int64_t ow, window_positions(in.who, {x[3], w[3], a.stride_w, a.dilation_w,
                                                      a.pad_left, a.pad_right}));
  return Shape{x[0], w[0], oh, ow};
}

Result<Shape> infer(const Inputs& in, const LinearAttrs&) {
  const Shape& x = in.shape(kX);
  const bool pixel = x.size() == 4 && x[2] == 1 && x[3] == 1;
  MPQ_REQUIRE(kNodeShape, x.size() == 2 || pixel, in.who, ": x has shape ", to_string(x),
              ", neither MxK nor NxCx1x1");
  MPQ_CHECK(in.rank(kWeights, 2));
  const Shape& w = in.shape(kWeights);
  MPQ_REQUIRE(kNodeShape, x[1] == w[1], in.who, ": x has ", x[1], " columns, weights ", w[1]);
  return Shape{x[0], w[0]};
}

Result<Shape> infer(const Inputs& in, const MaxPoolAttrs& a) {
  MPQ_CHECK(in.rank(0, 4));
  const Shape& x = in.shape(0);
  MPQ_TRY(const int64_t oh,
          window_positions(in.who, {x[2], a.kernel_h, a.stride_h, 1, a.pad_top, a.pad_bottom}));
  MPQ_TRY(const int64_t ow,
          window_positions(in.who, {x[3], a.kernel_w, a.stride_w, 1, a.pad_left, a.pad_right}));
  return Shape{x[0], x[1], oh, ow};
}

Result<Shape> infer(const Inputs& in, const AvgPoolAttrs& a) {
  MPQ_CHECK(in.rank(0, 4));
  const Shape& x = in.shape(0);
  if (a.kernel_h == 0 && a.kernel_w == 0) return Shape{x[0], x[1], 1, 1};
  MPQ_TRY(const int64_t oh, window_positions(in.who, {x[2], a.kernel_h, a.stride_h, 1, 0, 0}));
  MPQ_TRY(const int64_t ow, window_positions(in.who, {x[3], a.kernel_w, a.stride_w, 1, 0, 0}));
  return Shape{x[0], x[1], oh, ow};
}

Result<Shape> infer(const Inputs& in, const AddAttrs&) {
  MPQ_REQUIRE(kNodeShape, in.shape(0) == in.shape(1), in.who, ": a has shape ",
              to_string(in.shape(0)), ", b ", to_string(in.shape(1)));
  return in.shape(0);
}

Result<Shape> infer(const Inputs& in, const EmbeddingAttrs&) {
  MPQ_CHECK(in.rank(kIds, 1));
  MPQ_CHECK(in.rank(kWords, 2));
  const int64_t width = in.shape(kWords)[1];
  for (const size_t i : {kPositions, kTypeRows}) {
    if (!in.has(i)) continue;
    MPQ_CHECK(in.rank(i, 2));
    MPQ_REQUIRE(kNodeShape, in.shape(i)[1] == width, in.who, ": ", in.name(i), " has rows of ",
                in.shape(i)[1], ", words of ", width);
  }
  MPQ_REQUIRE(kNodeShape, !in.has(kTypes) || in.shape(kTypes) == in.shape(kIds), in.who,
              ": types and ids differ in shape");
  return Shape{in.shape(kIds)[0], width};
}

Result<Shape> infer(const Inputs& in, const LayerNormAttrs&) {
  MPQ_CHECK(in.rank(0, 2));
  MPQ_REQUIRE(kNodeShape, !in.has(kNormResidual) || in.shape(kNormResidual) == in.shape(0), in.who,
              ": residual and x differ in shape");
  return in.shape(0);
}

Result<Shape> infer(const Inputs& in, const AttentionAttrs& a) {
  MPQ_CHECK(in.rank(kQkv, 2));
  const Shape& x = in.shape(kQkv);
  const int64_t heads = a.heads;
  MPQ_REQUIRE(kNodeHeads, heads >= 1 && x[1] % 3 == 0 && x[1] / 3 % heads == 0, in.who, ": ", heads,
              " heads do not divide a third of ", x[1], " columns");
  return Shape{x[0], x[1] / 3};
}

Result<Shape> infer(const Inputs& in, const SequencePoolAttrs&) {
  MPQ_CHECK(in.rank(0, 2));
  return in.shape(0);
}

}  // namespace

Result<Shape> infer_shape(const Model& model, const Node& node) {
  const std::span<const Operand> operands = signature(node.op()).inputs;
  const size_t least = required_operands(operands);
  const Inputs in{model, node, {model, node}};
  MPQ_REQUIRE(kNodeArity, node.inputs.size() >= least && node.inputs.size() <= operands.size(),
              in.who, ": ", node.inputs.size(), " inputs, not ", least, " to ", operands.size());
  for (size_t i = 0; i < least; ++i)
    MPQ_REQUIRE(kNodeOperand,
                node.inputs[i] < model.tensors.size() ||
                    (operands[i].optional && node.inputs[i] == kNoTensor),
                in.who, ": ", operands[i].name, " is tensor ", node.inputs[i], " of ",
                model.tensors.size());
  return std::visit([&](const auto& attrs) { return infer(in, attrs); }, node.attrs);
}

}  // namespace mpq::format
