// A thread as a vector of one lane, for kernels/math/functions.h: see lanes_scalar.h for what each
// operation does.
#pragma once

#include "kernels/cuda/primitives.h"

namespace mpq::cuda {
namespace {

struct CudaLanes {
  using F = float;
  MPQ_DEVICE F set(float x) { return x; }
  MPQ_DEVICE F add(F a, F b) { return cuda::add(a, b); }
  MPQ_DEVICE F sub(F a, F b) { return cuda::sub(a, b); }
  MPQ_DEVICE F mul(F a, F b) { return cuda::mul(a, b); }
  MPQ_DEVICE F div(F a, F b) { return cuda::div(a, b); }
  MPQ_DEVICE F fma(F a, F b, F c) { return cuda::fma(a, b, c); }
  MPQ_DEVICE F max(F a, F b) { return a > b ? a : b; }
  MPQ_DEVICE F min(F a, F b) { return a < b ? a : b; }
  MPQ_DEVICE F abs(F x) { return float_of(bits_of(x) & 0x7FFFFFFFU); }
  MPQ_DEVICE F with_sign(F x, F sign) {
    return float_of(bits_of(x) | (bits_of(sign) & 0x80000000U));
  }
  MPQ_DEVICE F round(F x) { return round_half_even(x); }
  MPQ_DEVICE F pow2(F n) { return float_of(static_cast<uint32_t>(round_to_int(n) + 127) << 23); }
  MPQ_DEVICE F times_pow2(F p, F n) { return float_of(bits_of(p) + (bits_of(n) << 23)); }
  MPQ_DEVICE F pick16(const float* table, F selector) {
    return load_table(table + (bits_of(selector) & 15U));
  }
};

}  // namespace
}  // namespace mpq::cuda
