#include "format/constants.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "format/bits.h"

namespace mpq::format {
namespace {

template <typename T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Sum of |code| of the 16 signed nibbles of a word. |x| = (x ^ -sign) + sign in each field: the
// largest,
// |-8| = 8, still fits, so no carry leaves a field. Then sums of pairs, then of bytes by a
// multiply.
int64_t sum_abs_4bit(uint64_t x) {
  const uint64_t sign = x >> 3 & 0x1111111111111111;
  const uint64_t a = (x ^ sign * 15) + sign;
  const uint64_t bytes = (a & 0x0F0F0F0F0F0F0F0F) + (a >> 4 & 0x0F0F0F0F0F0F0F0F);
  return static_cast<int64_t>(bytes * 0x0101010101010101 >> 56);
}

// The same of 32 fields of 2 bits.
int64_t sum_abs_2bit(uint64_t x) {
  const uint64_t sign = x >> 1 & 0x5555555555555555;
  const uint64_t a = (x ^ sign * 3) + sign;
  const uint64_t nibbles = (a & 0x3333333333333333) + (a >> 2 & 0x3333333333333333);
  const uint64_t bytes = (nibbles & 0x0F0F0F0F0F0F0F0F) + (nibbles >> 4 & 0x0F0F0F0F0F0F0F0F);
  return static_cast<int64_t>(bytes * 0x0101010101010101 >> 56);
}

int64_t sum_abs_8bit(const std::byte* p, uint64_t n) {
  int64_t sum = 0;
  while (n != 0) {
    const auto block = static_cast<int>(std::min<uint64_t>(n, 1U << 16));  // 2^16 * 128 fits
    int32_t part = 0;
    for (int i = 0; i < block; ++i) part += std::abs(static_cast<int8_t>(p[i]));
    sum += part;
    p += block;
    n -= static_cast<uint64_t>(block);
  }
  return sum;
}

}  // namespace

int64_t sum_abs(const Tensor& weights, uint64_t first, uint64_t count) {
  const int bits = bits_of(weights.dtype);
  if (bits == 8) return sum_abs_8bit(weights.data.data() + first, count);
  const uint64_t fields = 64 / static_cast<uint64_t>(bits), per_byte = fields / 8;
  const uint64_t end = first + count;
  int64_t sum = 0;
  uint64_t i = first;
  const auto one = [&] { sum += std::abs(get_code(weights.data, i++, bits, true)); };
  while (i < end && i % per_byte != 0) one();
  for (; end - i >= fields; i += fields) {
    const auto word = load<uint64_t>(weights.data.data() + i / per_byte);
    sum += bits == 4 ? sum_abs_4bit(word) : sum_abs_2bit(word);
  }
  while (i < end) one();
  return sum;
}

ConstantFacts examine(const Tensor& constant) {
  ConstantFacts facts;
  uint64_t elements = 0;
  if (!checked_elements(constant.shape, &elements)) return facts;
  const std::byte* data = constant.data.data();
  if (constant.dtype == DType::kF32) {
    for (uint64_t i = 0; i < elements; ++i) {
      const auto x = load<float>(data + 4 * i);
      facts.finite = facts.finite && std::isfinite(x);
      facts.scales = facts.scales && (x == 0 || is_scale(x));
    }
  } else if (constant.dtype == DType::kS32) {
    for (uint64_t i = 0; i < elements; ++i)
      facts.largest = std::max(facts.largest, std::abs(int64_t{s32_at(constant, i)}));
  } else if (is_signed_code(constant.dtype)) {
    const auto rows = static_cast<uint64_t>(constant.shape[0]);
    const uint64_t row = elements / rows;
    for (uint64_t r = 0; r < rows; ++r)
      facts.largest = std::max(facts.largest, sum_abs(constant, r * row, row));
  } else {
    for (uint64_t i = 0; i < elements; ++i)
      facts.largest = std::max<int64_t>(facts.largest,
                                        get_code(constant.data, i, bits_of(constant.dtype), false));
  }
  return facts;
}

bool padding_is_clear(const Tensor& constant, uint64_t elements) {
  const auto used = static_cast<int>(elements * static_cast<uint64_t>(bits_of(constant.dtype)) % 8);
  return used == 0 || std::to_integer<int>(constant.data.back()) >> used == 0;
}

int32_t s32_at(const Tensor& constant, uint64_t i) {
  return load<int32_t>(constant.data.data() + 4 * i);
}

}  // namespace mpq::format
