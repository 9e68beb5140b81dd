// exp, tanh and GELU in binary32, one definition for every width of vector: the same operations in
// the same order, all rounded to nearest even, fused where it says fma. So the same bits
// everywhere. L is one of the lanes_*.h; the including file chooses. Largest errors against
// binary64, measured by tests/kernels/test_math.cc over all exponents:
//
//   exp_nonpositive   1.1 units in the last place in [-87, 0]
//   parts_of_255      4.5e-6 of the result
//   tanh              1.3e-7
//   gelu              1e-7 * max(1, |x|)
//   gelu_tanh         1e-7 * max(1, |x|)
//
// An input that is not a number gives an unspecified result without any fault.
#pragma once

#include "kernels/math/gelu_table.h"

namespace mpq::kernels {
namespace {

// e^x for x <= 0; below -87 as at -87 (1.6e-38, still normal). x = n ln 2 + r with |r| <= ln 2 / 2,
// ln 2 in two parts; e^r = 1 + r + r^2 p(r), p by interpolation at Chebyshev nodes.
template <typename L>
MPQ_EVERYWHERE static inline typename L::F exp_nonpositive(typename L::F x) {
  using F = typename L::F;
  x = L::max(x, L::set(-87.0F));
  const F n = L::round(L::mul(x, L::set(0x1.715476p+0F)));
  F r = L::fma(n, L::set(-0x1.62ep-1F), x);
  r = L::fma(n, L::set(-0x1.0bfbe8p-15F), r);
  F p = L::set(0x1.6d4366p-10F);
  p = L::fma(p, r, L::set(0x1.120ba6p-7F));
  p = L::fma(p, r, L::set(0x1.5554e8p-5F));
  p = L::fma(p, r, L::set(0x1.5554dcp-3F));
  p = L::fma(p, r, L::set(0.5F));
  p = L::fma(L::mul(r, r), p, r);
  return L::mul(L::add(p, L::set(1.0F)), L::pow2(n));
}

// 255 e^x for x <= 0, for codes: 255 2^u, u = x log2 e, below -20 as at -20. u = n + r with |r| <=
// 1/2 by the magic number 1.5 * 2^23, which leaves n in its low bits; 255 2^r by interpolation at
// Chebyshev nodes.
template <typename L>
MPQ_EVERYWHERE static inline typename L::F parts_of_255(typename L::F x) {
  using F = typename L::F;
  const F magic = L::set(0x1.8p+23F);
  const F u = L::max(L::mul(x, L::set(0x1.715476p+0F)), L::set(-20.0F));
  const F n = L::add(u, magic);
  const F r = L::sub(u, L::sub(n, magic));
  F p = L::set(0x1.3b82a0p+1F);
  p = L::fma(p, r, L::set(0x1.c852c6p+3F));
  p = L::fma(p, r, L::set(0x1.ea0e50p+5F));
  p = L::fma(p, r, L::set(0x1.617de2p+7F));
  p = L::fma(p, r, L::set(255.0F));
  return L::times_pow2(p, n);
}

// tanh |x| = (1 - e) / (1 + e), e = exp(-2 |x|).
template <typename L>
MPQ_EVERYWHERE static inline typename L::F tanh_of(typename L::F x) {
  using F = typename L::F;
  const F one = L::set(1.0F);
  const F e = exp_nonpositive<L>(L::mul(L::abs(x), L::set(-2.0F)));
  return L::with_sign(L::div(L::sub(one, e), L::add(one, e)), x);
}

// max(x, 0) - h(|x|): what both forms of GELU are, with their h in pieces (gelu_table.h). Adding
// the magic number 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the sum.
template <typename L>
MPQ_EVERYWHERE static inline typename L::F gelu_from(const float (&table)[kGeluTerms][kGeluPieces],
                                                     typename L::F x) {
  using F = typename L::F;
  const F magic = L::set(0x1.8p+23F);
  const F u = L::min(L::mul(L::abs(x), L::set(kGeluPiecesPerUnit)), L::set(kGeluPieces - 1));
  const F piece = L::add(u, magic);
  const F r = L::sub(u, L::sub(piece, magic));
  F h = L::pick16(table[kGeluTerms - 1], piece);
#pragma GCC unroll 5
  for (int d = kGeluTerms - 2; d >= 0; --d) h = L::fma(h, r, L::pick16(table[d], piece));
  return L::sub(L::max(x, L::set(0.0F)), h);
}

// x Phi(x): h(a) = a / 2 erfc(a / sqrt 2).
template <typename L>
MPQ_EVERYWHERE static inline typename L::F gelu(typename L::F x) {
  return gelu_from<L>(kTakenByErf, x);
}

// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
template <typename L>
MPQ_EVERYWHERE static inline typename L::F gelu_tanh(typename L::F x) {
  return gelu_from<L>(kTakenByTanh, x);
}

}  // namespace
}  // namespace mpq::kernels
