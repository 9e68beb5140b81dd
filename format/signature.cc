#include "format/signature.h"

#include <algorithm>

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

constexpr Operand kCodesOut[] = {{"y", kCodes}};
constexpr Operand kDenseOut[] = {{"y", kAnyResult}, {"second", kCodes, true}};
constexpr Operand kAvgPoolOut[] = {{"y", kCodesOrReal}};
constexpr Operand kAddOut[] = {{"y", kCodes}, {"second", kCodes, true}};

constexpr Signature kSignatures[kOpCodeCount] = {
    {kImageQuantizeIn, kCodesOut}, {kQuantizeIn, kCodesOut}, {kDenseIn, kDenseOut},
    {kDenseIn, kDenseOut},         {kPoolIn, kCodesOut},     {kPoolIn, kAvgPoolOut},
    {kAddIn, kAddOut},
};

}  // namespace

const Signature& signature(OpCode op) { return kSignatures[static_cast<int>(op)]; }

size_t required_operands(std::span<const Operand> operands) {
  return static_cast<size_t>(
      std::ranges::count_if(operands, [](const Operand& o) { return !o.optional; }));
}

bool accepts(OperandKind kind, DType type) {
  const bool code = is_code(type) && !is_signed_code(type);
  switch (kind) {
    case kPixels:
    case kTable: return type == DType::kU8;
    case kCodes: return code;
    case kReal:
    case kFloats: return type == DType::kF32;
    case kWeightCodes: return is_signed_code(type);
    case kInts: return type == DType::kS32;
    case kCodesOrReal: return code || type == DType::kF32;
    case kAnyResult: return code || type == DType::kF32 || type == DType::kS32;
  }
  return false;
}

std::string describe(const Model& model, TensorId id) {
  return id < model.tensors.size() ? concat("tensor ", id, " '", model.tensors[id].name, "'")
                                   : concat("tensor ", id);
}

std::string describe(const Model& model, const Node& node) {
  const std::string what = concat("'", node.name, "' (", to_string(node.op()), ")");
  const Node* first = model.nodes.data();
  const bool inside = &node >= first && &node < first + model.nodes.size();
  return inside ? concat("node ", &node - first, " ", what) : concat("node ", what);
}

}  // namespace mpq::format
