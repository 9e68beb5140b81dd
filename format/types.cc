#include "format/types.h"

namespace mpq {
namespace {

constexpr const char* kNames[kDTypeCount] = {"f32", "s32", "u8", "s8", "u4", "s4", "u2", "s2"};

}  // namespace

const char* to_string(DType type) {
  const auto i = static_cast<int>(type);
  return i < kDTypeCount ? kNames[i] : "unknown type";
}

bool parse_dtype(const std::string& text, DType* type) {
  for (int i = 0; i < kDTypeCount; ++i) {
    if (text == kNames[i]) {
      *type = static_cast<DType>(i);
      return true;
    }
  }
  return false;
}

std::string to_string(const Shape& shape) {
  std::string text;
  for (const int64_t dim : shape) {
    if (!text.empty()) text += 'x';
    text += std::to_string(dim);
  }
  return text.empty() ? "scalar" : text;
}

bool checked_elements(const Shape& shape, uint64_t* elements) {
  constexpr uint64_t kMax = uint64_t{1} << 62;
  uint64_t product = 1;
  bool zero = false;  // a zero factor must not hide a bad one behind it
  for (const int64_t dim : shape) {
    if (dim < 0) return false;
    if (dim == 0) {
      zero = true;
      continue;
    }
    if (static_cast<uint64_t>(dim) > kMax / product) return false;
    product *= static_cast<uint64_t>(dim);
  }
  *elements = zero ? 0 : product;
  return true;
}

}  // namespace mpq
