#include "format/model.h"

namespace mpq::format {

static_assert(std::variant_size_v<Attrs> == kOpCodeCount);

const char* to_string(OpCode op) {
  constexpr const char* kNames[kOpCodeCount] = {"image_quantize", "quantize", "conv2d", "linear",
                                                "max_pool",       "avg_pool", "add"};
  const auto i = static_cast<int>(op);
  return i < kOpCodeCount ? kNames[i] : "unknown operator";
}

}  // namespace mpq::format
