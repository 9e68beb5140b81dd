// What each operator takes and makes, as a table: the one place where operand types are written.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "format/model.h"

namespace mpq::format {

enum class OperandKind : uint8_t {
  kPixels,       // u8 without a scale, not constant
  kCodes,        // unsigned codes with a scale, not constant
  kReal,         // f32, not constant
  kIndices,      // s32, not constant
  kWeightCodes,  // signed codes, constant
  kFloats,       // f32, constant
  kInts,         // s32, constant
  kRows,         // f32, or s8 without a scale, constant
  kTable,        // u8 without a scale, constant
  kCodesOrReal,  // an output: codes or f32
  kAnyResult,    // an output: codes, f32 or s32
};

struct Operand {
  const char* name;
  OperandKind kind;
  bool optional = false;
};

struct Signature {
  std::span<const Operand> inputs, outputs;
};

const Signature& signature(OpCode op);
// How many operands there are at least: up to the last one that is not optional.
size_t required_operands(std::span<const Operand> operands);

bool accepts(OperandKind kind, DType type);
constexpr bool is_parameter(OperandKind kind) {
  return kind >= OperandKind::kWeightCodes && kind <= OperandKind::kTable;
}

// The tensor at a position, or kNoTensor when it is absent.
constexpr TensorId operand(const std::vector<TensorId>& operands, size_t position) {
  return position < operands.size() ? operands[position] : kNoTensor;
}

// Names of things for error messages, made into text only when there is one.
struct TensorName {  // "tensor 3 'conv1.weight'"
  const Model& model;
  TensorId id;
};
struct NodeName {  // "node 0 'conv1' (conv2d)"
  const Model& model;
  const Node& node;
};
void append(std::string& to, const TensorName& name);
void append(std::string& to, const NodeName& name);

}  // namespace mpq::format
