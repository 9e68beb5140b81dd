#include "format/model.h"

namespace mpq::format {

static_assert(std::variant_size_v<Attrs> == kOpCodeCount);

const char* to_string(OpCode op) {
  constexpr const char* kNames[kOpCodeCount] = {
      "image_quantize", "quantize",   "conv2d",    "linear",       "max_pool", "avg_pool", "add",
      "embedding",      "layer_norm", "attention", "sequence_pool"};
  const auto i = static_cast<int>(op);
  return i < kOpCodeCount ? kNames[i] : "unknown operator";
}

const Requant* requant_of(const Attrs& attrs) {
  if (const auto* conv = std::get_if<Conv2dAttrs>(&attrs)) return &conv->requant;
  if (const auto* linear = std::get_if<LinearAttrs>(&attrs)) return &linear->requant;
  return nullptr;
}

}  // namespace mpq::format
