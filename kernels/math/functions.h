// exp, tanh and GELU in binary32, one definition for every width of vector: the same operations in
// the same order, all rounded to nearest even, fused where it says fma. So the same bits
// everywhere. L is one of the lanes_*.h; the including file chooses. Largest errors against
// binary64, measured by tests/kernels/test_math.cc over all exponents:
//
//   exp_nonpositive   1.1 units in the last place in [-87, 0]
//   tanh              1.3e-7
//   gelu              2.5e-7 * max(1, |x|)
//   gelu_tanh         2.5e-7 * max(1, |x|)
//
// An input that is not a number gives an unspecified result without any fault.
#pragma once

namespace mpq::kernels {
namespace {

// e^x for x <= 0; below -87 as at -87 (1.6e-38, still normal). x = n ln 2 + r with |r| <= ln 2 / 2,
// ln 2 in two parts; e^r = 1 + r + r^2 p(r), p by interpolation at Chebyshev nodes.
template <typename L>
static inline typename L::F exp_nonpositive(typename L::F x) {
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

// tanh |x| = (1 - e) / (1 + e), e = exp(-2 |x|).
template <typename L>
static inline typename L::F tanh_of(typename L::F x) {
  using F = typename L::F;
  const F one = L::set(1.0F);
  const F e = exp_nonpositive<L>(L::mul(L::abs(x), L::set(-2.0F)));
  return L::with_sign(L::div(L::sub(one, e), L::add(one, e)), x);
}

// x Phi(x) = max(x, 0) - |x| / 2 * erfc(|x| / sqrt 2). erfc(z) = t p(t) exp(-z^2), t = 1 / (1 + c
// z): Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
template <typename L>
static inline typename L::F gelu(typename L::F x) {
  using F = typename L::F;
  const F magnitude = L::abs(x);
  const F z = L::mul(magnitude, L::set(0.70710678F));
  const F t = L::div(L::set(1.0F), L::fma(z, L::set(0.3275911F), L::set(1.0F)));
  F p = L::set(1.061405429F);
  p = L::fma(p, t, L::set(-1.453152027F));
  p = L::fma(p, t, L::set(1.421413741F));
  p = L::fma(p, t, L::set(-0.284496736F));
  p = L::fma(p, t, L::set(0.254829592F));
  const F e = exp_nonpositive<L>(L::mul(L::mul(x, x), L::set(-0.5F)));
  const F tail = L::mul(L::mul(p, t), L::mul(e, L::mul(magnitude, L::set(0.5F))));
  return L::sub(L::max(x, L::set(0.0F)), tail);
}

// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) = x sigmoid(2 u).
template <typename L>
static inline typename L::F gelu_tanh(typename L::F x) {
  using F = typename L::F;
  const F one = L::set(1.0F);
  const F cubic = L::fma(L::mul(x, x), L::set(0.044715F), one);
  const F twice_u = L::mul(L::mul(L::abs(x), L::set(1.5957691F)), cubic);
  const F e = exp_nonpositive<L>(L::sub(L::set(0.0F), twice_u));
  const F numerator = L::if_negative(x, e, one);
  return L::div(L::mul(x, numerator), L::add(one, e));
}

}  // namespace
}  // namespace mpq::kernels
