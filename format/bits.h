// The definition of canonical sub-byte packing: code i of b bits lies at bits [i*b, i*b + b) of the
// byte stream, low bits first. 4 bit: element 0 in the low nibble. 2 bit: element 0 in bits 0-1.
// Equal to ONNX's INT4/UINT4/INT2/UINT2 raw data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mpq::format {

constexpr uint64_t packed_bytes(uint64_t elements, int bits) {
  return (elements * static_cast<uint64_t>(bits) + 7) / 8;
}

// The raw field of element i, zero-extended. bits is 2, 4 or 8.
constexpr uint32_t get_field(std::span<const std::byte> bytes, uint64_t i, int bits) {
  const uint64_t bit = i * static_cast<uint64_t>(bits);
  return (std::to_integer<uint32_t>(bytes[bit >> 3]) >> (bit & 7)) & ((1U << bits) - 1U);
}

// Element i as a number: sign-extended from `bits` when is_signed.
constexpr int32_t get_code(std::span<const std::byte> bytes, uint64_t i, int bits, bool is_signed) {
  const auto field = static_cast<int32_t>(get_field(bytes, i, bits));
  return is_signed && (field >> (bits - 1)) != 0 ? field - (1 << bits) : field;
}

// Stores the low `bits` bits of code (two's complement for signed codes).
constexpr void set_code(std::span<std::byte> bytes, uint64_t i, int bits, int32_t code) {
  const uint64_t bit = i * static_cast<uint64_t>(bits);
  const uint32_t mask = ((1U << bits) - 1U) << (bit & 7);
  const uint32_t field = (static_cast<uint32_t>(code) << (bit & 7)) & mask;
  bytes[bit >> 3] =
      static_cast<std::byte>((std::to_integer<uint32_t>(bytes[bit >> 3]) & ~mask) | field);
}

}  // namespace mpq::format
