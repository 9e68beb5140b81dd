// Sums out of packed products (crt.h), 16 lanes at a time. For AVX-512 files only; all static.
//
// Results are the bits of 1.5 * 2^23 + x, whose low bits count x: an int32 addition of them, and of
// -kCrtMagic once, adds x. Roundings to multiples are one FMA on that magic number; a quotient may
// come out one too far, which a digit of the next modulus makes good as long as that one is exact:
// what it stands for must be less than half its modulus, by more than the error of the quotient.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/conv/crt.h"

namespace mpq::kernels {

static constexpr int32_t kCrtMagic = 0x4b400000;  // bits of the float 1.5 * 2^23

// t / modulus to the nearest integer, still on the magic number.
static inline __m512 crt_quotient(__m512 t, double modulus) {
  return _mm512_fmadd_ps(t, _mm512_set1_ps(static_cast<float>(1.0 / modulus)),
                         _mm512_set1_ps(0x1.8p23F));
}
static inline __m512 crt_remainder(__m512 t, __m512 quotient, float modulus) {
  return _mm512_fnmadd_ps(_mm512_sub_ps(quotient, _mm512_set1_ps(0x1.8p23F)),
                          _mm512_set1_ps(modulus), t);
}

// x1, x2, x3 of t1 = scale * (84 x1 + x2), t2 = scale * (83 x3 + x2); |x2| <= 3456.
template <int32_t kScale>
static inline void crt_pair(__m512 t1, __m512 t2, __m512i x[3]) {
  constexpr int32_t p = kCrtModuli[0] * kScale, q = kCrtModuli[1] * kScale;
  const __m512 f = crt_quotient(t1, p), r = crt_remainder(t1, f, p);  // x1 + h, scale * x2 mod 84
  const __m512 d = _mm512_sub_ps(t2, r);  // scale * (83 x3 + 84 h) where x2 = r + 84 h
  const __m512 g = crt_quotient(d, q), h = crt_remainder(d, g, q);  // x3 + h, scale * h
  const __m512 unit = _mm512_set1_ps(static_cast<float>(1.0 / kScale));
  x[0] = _mm512_castps_si512(_mm512_fnmadd_ps(h, unit, f));
  x[1] = _mm512_castps_si512(
      crt_quotient(_mm512_fmadd_ps(h, _mm512_set1_ps(kCrtModuli[0]), r), kScale));
  x[2] = _mm512_castps_si512(_mm512_fnmadd_ps(h, unit, g));
}

// What t1, t2 and t3 are modulo 84, 83 and 79.
static inline __m512 crt_common(__m512 t1, __m512 t2, __m512 t3) {
  constexpr int32_t p = kCrtModuli[0], q = kCrtModuli[1], s = kCrtModuli[2];
  static_assert(p - q == 1 && 4 * p * q % s == 1);
  const __m512 r1 = crt_remainder(t1, crt_quotient(t1, p), p);
  const __m512 d = _mm512_sub_ps(t2, r1);
  const __m512 r2 = crt_remainder(d, crt_quotient(d, q), q);
  const __m512 low = _mm512_fmadd_ps(r2, _mm512_set1_ps(p), r1);
  // t3 - low is p q h modulo s, a quarter of h: four of it leave h.
  const __m512 e = _mm512_sub_ps(t3, low);
  const __m512 quarter = crt_remainder(e, crt_quotient(e, s / 4.0), s / 4.0F);
  return _mm512_fmadd_ps(quarter, _mm512_set1_ps(4 * p * q), low);
}

// x1..x4 of t_v = m_v x_v + x4.
static inline void crt_triple(const __m512 t[3], __m512i x[4]) {
  const __m512 y = crt_common(t[0], t[1], t[2]);
#pragma GCC unroll 3
  for (int v = 0; v < 3; ++v)
    x[v] = _mm512_castps_si512(crt_quotient(_mm512_sub_ps(t[v], y), kCrtModuli[v]));
  x[3] = _mm512_castps_si512(_mm512_add_ps(y, _mm512_set1_ps(0x1.8p23F)));
}

// x[v][i] of t1[v], t2[v], v = 1..3: see crt.h.
static inline void crt_pair_of_triples(const __m512 t1[3], const __m512 t2[3], __m512i x[4][3]) {
  const __m512 y1 = crt_common(t1[0], t1[1], t1[2]), y2 = crt_common(t2[0], t2[1], t2[2]);
  crt_pair<kCrtModuli[0]>(_mm512_sub_ps(t1[0], y1), _mm512_sub_ps(t2[0], y2), x[0]);
  crt_pair<kCrtModuli[1]>(_mm512_sub_ps(t1[1], y1), _mm512_sub_ps(t2[1], y2), x[1]);
  crt_pair<kCrtModuli[2]>(_mm512_sub_ps(t1[2], y1), _mm512_sub_ps(t2[2], y2), x[2]);
  crt_pair<1>(y1, y2, x[3]);
}

}  // namespace mpq::kernels
