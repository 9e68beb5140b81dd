// The reference's vector of one lane: what functions.h needs of a vector type, in portable C++.
#pragma once

#include <cmath>
#include <cstdint>

namespace mpq::kernels {
namespace {

struct ScalarLanes {
  using F = float;
  static constexpr uint32_t kWidth = 1;
  static F set(float x) { return x; }
  static F load(const float* p) { return *p; }
  static void store(float* p, F x) { *p = x; }
  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F div(F a, F b) { return a / b; }
  static F fma(F a, F b, F c) { return std::fmaf(a, b, c); }
  // b when either is not a number, as the instructions have it.
  static F max(F a, F b) { return a > b ? a : b; }
  static F min(F a, F b) { return a < b ? a : b; }
  static F abs(F x) {
    return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, x) & 0x7FFFFFFFU);
  }
  // |x| with the sign of `sign`; x is not negative.
  static F with_sign(F x, F sign) {
    return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, x) |
                                         (__builtin_bit_cast(uint32_t, sign) & 0x80000000U));
  }
  static F round(F x) { return std::nearbyintf(x); }
  static F load_sums(const int32_t* p) { return static_cast<float>(*p); }
  // x is a code within 0..255 once it is rounded.
  static void store_codes(uint8_t* p, F x) {
    *p = static_cast<uint8_t>(static_cast<int32_t>(round(x)));
  }
  // 2^n of an integral n in -126..127.
  static F pow2(F n) {
    return __builtin_bit_cast(float, static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
  }
  // p * 2^n where the low bits of `n`, as an integer, are those of n.
  static F times_pow2(F p, F n) {
    return __builtin_bit_cast(
        float, __builtin_bit_cast(uint32_t, p) + (__builtin_bit_cast(uint32_t, n) << 23));
  }
  // table[the low four bits of `selector` as an integer].
  static F pick16(const float* table, F selector) {
    return table[__builtin_bit_cast(uint32_t, selector) & 15U];
  }
};

}  // namespace
}  // namespace mpq::kernels
