// Eight lanes of AVX2. Only files compiled for it include this.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace mpq::kernels {
namespace {

struct Avx2Lanes {
  using F = __m256;
  using I = __m256i;
  static constexpr uint32_t kWidth = 8;
  static F set(float x) { return _mm256_set1_ps(x); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F abs(F x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x); }
  static F with_sign(F x, F sign) {
    return _mm256_or_ps(x, _mm256_and_ps(sign, _mm256_set1_ps(-0.0F)));
  }
  static F round(F x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F load_sums(const int32_t* p) {
    return _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static I zero() { return _mm256_setzero_si256(); }
  // Pairs of 16-bit numbers, a pair a lane.
  static I load_pairs(const int16_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I set_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm256_set1_epi32(pair);
  }
  static I add_products(I acc, I a, I b) { return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)); }
  static void store_sums(int32_t* p, I sums) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), sums);
  }
  static void store_codes(uint8_t* p, F x) {
    const __m256i codes = _mm256_cvtps_epi32(x);
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  static F pow2(F n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  static F times_pow2(F p, F n) {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
  }
  static F pick16(const float* table, F selector) {
    const __m256i at = _mm256_castps_si256(selector);
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), at),
                            _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), at),
                            _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));
  }
};

}  // namespace
}  // namespace mpq::kernels
