// What validation needs to know of a constant's values, gathered in one pass over them, however
// many nodes share it.
#pragma once

#include <cstdint>

#include "format/model.h"

namespace mpq::format {

inline constexpr float kMaxScale = 0x1p40F;

// Normal, positive and at most 2^40: false for NaN too.
constexpr bool is_scale(float x) { return x >= 0x1p-126F && x <= kMaxScale; }

struct ConstantFacts {
  bool finite = true;  // f32
  bool scales = true;  // f32: all are 0 or is_scale
  // Signed codes: the largest sum of |code| over a row (all dimensions but the first). Unsigned
  // codes: the largest. s32: the largest absolute value.
  int64_t largest = 0;
};

ConstantFacts examine(const Tensor& constant);

// Sum of |code| of signed codes [first, first + count).
int64_t sum_abs(const Tensor& weights, uint64_t first, uint64_t count);

// True when the bits behind the last element are 0.
bool padding_is_clear(const Tensor& constant, uint64_t elements);

int32_t s32_at(const Tensor& constant, uint64_t i);

}  // namespace mpq::format
