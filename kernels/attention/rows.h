// The rows of the family, defined one instruction set a file, and the geometry they share.
#pragma once

#include "kernels/attention/attention.h"

namespace mpq::kernels {

extern const AttentionKernel attention_u8_ref, attention_u8_avx2, attention_u8_avx512vnni,
    attention_u8_amx;

static constexpr float kBelowAll = -__builtin_inff();  // where a maximum begins

[[maybe_unused]] static constexpr size_t pad(size_t n, size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// The next `count` elements of a scratch that begins at `base`, of which *bytes are taken; null
// without a base, to count them only.
template <typename T>
static inline void take_place(T** pointer, size_t count, void* base, size_t* bytes) {
  *pointer =
      base == nullptr ? nullptr : reinterpret_cast<T*>(static_cast<std::byte*>(base) + *bytes);
  *bytes += pad(count * sizeof(T), 64);
}

static inline uint8_t* attention_code(const Planes& p, uint32_t token, uint32_t column) {
  return p.data + static_cast<ptrdiff_t>(column / p.cb) * p.plane +
         static_cast<ptrdiff_t>(token) * p.image + column % p.cb;
}

// Of key j, for query i; those of the next keys follow.
static inline const float* attention_bias(const AttentionArgs& a, uint32_t head, uint32_t i,
                                          uint32_t j) {
  return a.relative_bias + size_t{head} * (2 * a.max_length - 1) + (a.max_length - 1 + j - i);
}

}  // namespace mpq::kernels
