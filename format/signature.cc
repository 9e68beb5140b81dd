#include "format/signature.h"

#include "format/text.h"

namespace mpq::format {
namespace {

using enum OperandKind;

constexpr Operand kImageQuantizeIn[] = {{"x", kPixels}, {"table", kTable}};
constexpr Operand kQuantizeIn[] = {{"x", kReal}};
constexpr Operand kDenseIn[] = {{"x", kCodes},
                                {"weights", kWeightCodes},
                                {"multiplier", kFloats},
                                {"bias", kFloats},
                                {"acc_bias", kInts, true},
                                {"residual", kCodes, true},
                                {"residual_factor", kInts, true}};
constexpr Operand kPoolIn[] = {{"x", kCodes}};
constexpr Operand kAddIn[] = {{"a", kCodes}, {"b", kCodes}};

constexpr Operand kEmbeddingIn[] = {{"ids", kIndices},      {"types", kIndices, true},
                                    {"words", kRows},       {"word_scale", kFloats, true},
                                    {"positions", kFloats}, {"type_rows", kFloats, true}};
constexpr Operand kLayerNormIn[] = {
    {"x", kReal},      {"residual", kReal, true},       {"gamma", kFloats},
    {"beta", kFloats}, {"second_gamma", kFloats, true}, {"second_beta", kFloats, true}};
constexpr Operand kAttentionIn[] = {{"qkv", kCodes},
                                    {"score_scale", kFloats},
                                    {"value_scale", kFloats},
                                    {"relative_bias", kFloats, true}};

constexpr Operand kRealOut[] = {{"y", kReal}};
constexpr Operand kLayerNormOut[] = {{"y", kReal}, {"second", kCodes, true}};
constexpr Operand kCodesOut[] = {{"y", kCodes}};
constexpr Operand kDenseOut[] = {{"y", kAnyResult}, {"second", kCodes, true}};
constexpr Operand kAvgPoolOut[] = {{"y", kCodesOrReal}};
constexpr Operand kAddOut[] = {{"y", kCodes}, {"second", kCodes, true}};

constexpr Signature kSignatures[kOpCodeCount] = {
    {kImageQuantizeIn, kCodesOut},
    {kQuantizeIn, kCodesOut},
    {kDenseIn, kDenseOut},
    {kDenseIn, kDenseOut},
    {kPoolIn, kCodesOut},
    {kPoolIn, kAvgPoolOut},
    {kAddIn, kAddOut},
    {kEmbeddingIn, kRealOut},
    {kLayerNormIn, kLayerNormOut},
    {kAttentionIn, kCodesOut},
    {kQuantizeIn, kRealOut},
};

}  // namespace

const Signature& signature(OpCode op) { return kSignatures[static_cast<int>(op)]; }

size_t required_operands(std::span<const Operand> operands) {
  size_t least = operands.size();
  while (least > 0 && operands[least - 1].optional) --least;
  return least;
}

bool accepts(OperandKind kind, DType type) {
  const bool code = is_code(type) && !is_signed_code(type);
  switch (kind) {
    case kPixels:
    case kTable:
      return type == DType::kU8;
    case kCodes:
      return code;
    case kReal:
    case kFloats:
      return type == DType::kF32;
    case kRows:
      return type == DType::kF32 || type == DType::kS8;
    case kWeightCodes:
      return is_signed_code(type);
    case kIndices:
    case kInts:
      return type == DType::kS32;
    case kCodesOrReal:
      return code || type == DType::kF32;
    case kAnyResult:
      return code || type == DType::kF32 || type == DType::kS32;
  }
  return false;
}

void append(std::string& to, const TensorName& name) {
  append(to, "tensor ");
  append(to, name.id);
  if (name.id >= name.model.tensors.size()) return;
  append(to, " '");
  append(to, name.model.tensors[name.id].name);
  append(to, "'");
}

void append(std::string& to, const NodeName& name) {
  const std::vector<Node>& nodes = name.model.nodes;
  append(to, "node ");
  for (size_t i = 0; i < nodes.size(); ++i)
    if (&nodes[i] == &name.node) to += concat(i, " ");
  to += concat("'", name.node.name, "' (", to_string(name.node.op()), ")");
}

}  // namespace mpq::format
