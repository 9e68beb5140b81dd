// Packed fields of 4 or 2 bits (panels.h) to int8. For AVX-512 files only; all static.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace mpq::kernels {

// One GFNI affine map takes a field of every byte and sign-extends it. Row i of the matrix, from
// the top byte down, names the source bits of result bit i.
[[maybe_unused]] static constexpr uint64_t field_matrix(uint32_t bits, uint32_t field) {
  uint64_t matrix = 0;
  for (uint32_t i = 0; i < 8; ++i) {
    const uint32_t source = field * bits + (i < bits ? i : bits - 1);
    matrix |= (uint64_t{1} << source) << (8 * (7 - i));
  }
  return matrix;
}

template <uint32_t kBits>
static inline __m512i field_map(uint32_t field) {
  constexpr uint32_t kLast = 8 / kBits - 1, kThird = kLast < 2 ? 0 : 2, kSecond = kLast < 1 ? 0 : 1;
  static constexpr uint64_t kMaps[] = {field_matrix(kBits, 0), field_matrix(kBits, kSecond),
                                       field_matrix(kBits, kThird), field_matrix(kBits, kLast)};
  return _mm512_set1_epi64(static_cast<long long>(kMaps[field]));
}
template <uint32_t kBits>
static inline __m512i widen_field(__m512i line, uint32_t field) {
  return _mm512_gf2p8affine_epi64_epi8(line, field_map<kBits>(field), 0);
}

// All channels of `groups` k-groups, to 256 bytes each.
template <uint32_t kBits>
[[maybe_unused]] static void widen_all(const uint8_t* packed, size_t groups, int8_t* wide) {
  constexpr uint32_t kFields = 8 / kBits;
  const size_t lines = groups * 4 / kFields;
  for (size_t i = 0; i < lines; ++i, packed += 64) {
    const __m512i line = _mm512_loadu_si512(packed);
#pragma GCC unroll 4
    for (uint32_t f = 0; f < kFields; ++f, wide += 64)
      _mm512_store_si512(wide, widen_field<kBits>(line, f));
  }
}

// Half the channels of `groups` k-groups, to 128 bytes each.
template <uint32_t kBits>
[[maybe_unused]] static inline void widen_half(const uint8_t* packed, size_t groups, uint32_t half,
                                               int8_t* wide) {
  constexpr uint32_t kFields = 8 / kBits;
  packed += half * 2 / kFields * 64;
  const uint32_t first = half * 2 % kFields;
  const __m512i matrix[2] = {field_map<kBits>(first), field_map<kBits>(first + 1)};
#pragma GCC unroll 16
  for (size_t g = 0; g < groups; ++g, packed += 256 / kFields, wide += 128) {
    const __m512i line = _mm512_loadu_si512(packed);
    _mm512_store_si512(wide, _mm512_gf2p8affine_epi64_epi8(line, matrix[0], 0));
    _mm512_store_si512(wide + 64, _mm512_gf2p8affine_epi64_epi8(line, matrix[1], 0));
  }
}

}  // namespace mpq::kernels
