// Sixteen lanes of AVX-512. Only files compiled for it include this.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace mpq::kernels {
namespace {

struct Avx512Lanes {
  using F = __m512;
  using I = __m512i;
  static constexpr uint32_t kWidth = 16;
  static F set(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F abs(F x) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0F), x); }
  static F with_sign(F x, F sign) {
    return _mm512_or_ps(x, _mm512_and_ps(sign, _mm512_set1_ps(-0.0F)));
  }
  static F round(F x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static F load_sums(const int32_t* p) { return _mm512_cvtepi32_ps(_mm512_loadu_si512(p)); }
  static I zero() { return _mm512_setzero_si512(); }
  // Pairs of 16-bit numbers, a pair a lane.
  static I load_pairs(const int16_t* p) { return _mm512_loadu_si512(p); }
  static I set_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static I add_products(I acc, I a, I b) { return _mm512_dpwssd_epi32(acc, a, b); }
  static void store_sums(int32_t* p, I sums) { _mm512_storeu_si512(p, sums); }
  static void store_codes(uint8_t* p, F x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
  }
  static F pow2(F n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
  }
  static F times_pow2(F p, F n) {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(n), 23)));
  }
  // The lanes below n.
  static __mmask16 first(uint32_t n) {
    return static_cast<__mmask16>(n >= kWidth ? 0xFFFFU : (1U << n) - 1U);
  }
  // Packs work in 128-bit lanes: of four vectors packed to bytes, dword 4 * lane + i came from
  // vector i. This puts such bytes in order, and bytes in order to where packs would leave them.
  static I packed_order(I bytes) {
    const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, bytes);
  }
  // 64 codes, in order, of four vectors of integers within 0..255 or out of it to the nearer end.
  static I pack_codes(const I q[4]) {
    const I words01 = _mm512_packs_epi32(q[0], q[1]), words23 = _mm512_packs_epi32(q[2], q[3]);
    return packed_order(_mm512_packus_epi16(words01, words23));
  }
  static F pick16(const float* table, F selector) {
    return _mm512_permutexvar_ps(_mm512_castps_si512(selector), _mm512_loadu_ps(table));
  }
};

}  // namespace
}  // namespace mpq::kernels
