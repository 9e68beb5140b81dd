// The transforms of Winograd's F(2 x 2) and F(3 x 3) (winograd.h) in one dimension, on vectors:
// bytes for codes and weights, int32 for sums. For AVX-512 files only.
#pragma once

#include <immintrin.h>

#include "kernels/conv/winograd.h"

namespace mpq::kernels {
namespace {

inline __m512i add8(__m512i a, __m512i b) { return _mm512_add_epi8(a, b); }
inline __m512i sub8(__m512i a, __m512i b) { return _mm512_sub_epi8(a, b); }
inline __m512i twice8(__m512i a) { return _mm512_add_epi8(a, a); }
inline __m512i add32(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
inline __m512i sub32(__m512i a, __m512i b) { return _mm512_sub_epi32(a, b); }
inline __m512i twice32(__m512i a) { return _mm512_add_epi32(a, a); }

// input:   v = B^T d + offset, with as few additions of the offset as reach every result
// weights: u = G w
// output:  y = A^T m
// divide:  y / divisor, exact
struct Winograd2 {
  static constexpr WinogradForm kForm = kWinograd2;
  static constexpr uint32_t kM = kForm.m, kSide = kForm.side();

  static inline void input(const __m512i d[4], __m512i offset, __m512i v[4]) {
    const __m512i b = add8(d[1], offset);
    v[0] = sub8(add8(d[0], offset), d[2]);
    v[1] = add8(b, d[2]);
    v[2] = sub8(add8(d[2], offset), d[1]);
    v[3] = sub8(add8(d[3], offset), d[1]);
  }
  static inline void weights(const __m512i w[3], __m512i u[4]) {
    const __m512i ends = add8(w[0], w[2]);
    u[0] = twice8(w[0]);
    u[1] = add8(ends, w[1]);
    u[2] = sub8(ends, w[1]);
    u[3] = twice8(w[2]);
  }
  static inline void output(const __m512i m[4], __m512i y[2]) {
    y[0] = add32(add32(m[0], m[1]), m[2]);
    y[1] = add32(sub32(m[1], m[2]), m[3]);
  }
  static inline __m512i divide(__m512i y) { return _mm512_srai_epi32(y, 2); }
};

struct Winograd3 {
  static constexpr WinogradForm kForm = kWinograd3;
  static constexpr uint32_t kM = kForm.m, kSide = kForm.side();

  static inline void input(const __m512i d[5], __m512i offset, __m512i v[5]) {
    const __m512i b = twice8(d[1]), last = add8(d[3], offset), c = sub8(last, d[2]);
    v[0] = sub8(add8(twice8(sub8(d[0], d[2])), last), d[1]);
    v[1] = sub8(c, b);
    v[2] = sub8(add8(c, b), twice8(d[2]));
    v[3] = sub8(last, d[1]);
    v[4] = sub8(add8(sub8(b, d[2]), add8(d[4], offset)), twice8(d[3]));
  }
  static inline void weights(const __m512i w[3], __m512i u[5]) {
    const __m512i ends = add8(w[0], w[2]);
    u[0] = w[0];
    u[1] = add8(ends, w[1]);
    u[2] = sub8(ends, w[1]);
    u[3] = add8(twice8(add8(twice8(w[2]), w[1])), w[0]);
    u[4] = w[2];
  }
  static inline void output(const __m512i m[5], __m512i y[3]) {
    const __m512i first = sub32(m[0], m[1]), three = add32(twice32(m[1]), m[1]),
                  fourth = twice32(m[3]), last = add32(twice32(m[4]), m[4]);
    y[0] = add32(add32(twice32(first), first), sub32(m[3], m[2]));
    y[1] = add32(sub32(m[2], three), fourth);
    y[2] = sub32(twice32(add32(fourth, last)), add32(m[2], three));
  }
  static inline __m512i divide(__m512i y) {
    constexpr uint32_t kNinth = 0x38e38e39;  // 9 * kNinth = 1 mod 2^32
    static_assert(9U * kNinth == 1);
    return _mm512_mullo_epi32(_mm512_srai_epi32(y, 2), _mm512_set1_epi32(kNinth));
  }
};

}  // namespace
}  // namespace mpq::kernels
