// DType, Shape, QuantParams: the words for data that the format, the runtime and the converter
// share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mpq {

// Element types. Values are the ones in the file (mpq.fbs) and in the C API; never reused.
// Unsigned codes are activations, signed codes are weights.
enum class DType : uint8_t {
  kF32 = 0,
  kS32 = 1,
  kU8 = 2,
  kS8 = 3,
  kU4 = 4,
  kS4 = 5,
  kU2 = 6,
  kS2 = 7,
};
inline constexpr int kDTypeCount = 8;

const char* to_string(DType type);                  // "u4"
bool parse_dtype(const std::string& text, DType*);  // the inverse; false for an unknown name

constexpr int bits_of(DType type) {
  constexpr int kBits[kDTypeCount] = {32, 32, 8, 8, 4, 4, 2, 2};
  return kBits[static_cast<int>(type)];
}
constexpr bool is_code(DType type) { return type >= DType::kU8; }
constexpr bool is_signed_code(DType type) {
  return type == DType::kS8 || type == DType::kS4 || type == DType::kS2;
}
constexpr DType unsigned_code(int bits) {
  return bits == 8 ? DType::kU8 : bits == 4 ? DType::kU4 : DType::kU2;
}
constexpr DType signed_code(int bits) {
  return bits == 8 ? DType::kS8 : bits == 4 ? DType::kS4 : DType::kS2;
}
// The range of codes: u4 0..15, s4 -8..7.
constexpr int32_t min_code(DType type) {
  return is_signed_code(type) ? -(1 << (bits_of(type) - 1)) : 0;
}
constexpr int32_t max_code(DType type) {
  return is_signed_code(type) ? (1 << (bits_of(type) - 1)) - 1 : (1 << bits_of(type)) - 1;
}

// Dimensions, outermost first. Activations of a CNN are NCHW, of a matrix [M, K]; conv weights are
// [O, I, R, S]; linear weights are [O, K]. The first dimension of a graph input is the batch and is
// 1 in the file; sessions choose the batch.
using Shape = std::vector<int64_t>;

std::string to_string(const Shape& shape);  // "1x64x56x56"

// Product of the dimensions; false when one is negative or the product exceeds 2^62.
bool checked_elements(const Shape& shape, uint64_t* elements);

// real = scale * (code - zero_point). Per tensor for activations; weights have zero point 0 and
// their scales live in the op's multiplier.
struct QuantParams {
  float scale = 0.0F;  // 0: not quantised
  int32_t zero_point = 0;
};

}  // namespace mpq
