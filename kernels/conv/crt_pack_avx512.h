// How pixels and channels are packed (crt.h). A Method has
//
//   kPixels -> kRows             pixels become packed rows; kGroups times that is a unit
//   kMaxBlocks                   of a chunk
//   kHalfShift                   twice what a sum is raised, a k, to lie around 0
//   pack, pixel_factor(row)      pixels to rows; the sum of a row's multipliers
//   kBits                        of the weights in panels (panels.h)
//   widen, channel_factor(v)     channels to vectors; the sum of a vector's multipliers
//   kOffset                      what is added to every widened weight
//   decode(packed, from, step, to)   kPixels x 64 sums, added to from: [pixel][step]
//
// For AVX-512 files only; all in an unnamed namespace.
#pragma once

#include "kernels/conv/crt_decode_avx512.h"
#include "kernels/conv/widen_avx512.h"

namespace mpq::kernels {
namespace {

// x, as 1.5 * 2^23 + x, added to a vector of sums.
inline void add_sums(const int32_t* from, __m512i x, int32_t* to) {
  _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_loadu_si512(from), x));
}

// 16-byte table in every lane, for bytes of small values.
inline __m512i byte_table(const int8_t table[16]) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}
inline __m512i times_table(int32_t factor) {  // of codes 0..3
  alignas(16) int8_t table[16] = {};
  for (int32_t i = 0; i < 4; ++i) table[i] = static_cast<int8_t>(i * factor);
  return byte_table(table);
}
inline __m512i times(__m512i table, __m512i codes) { return _mm512_shuffle_epi8(table, codes); }

// Panels of 2 bits to m_v w_v + w_4 + 42, v = 1..3, where w_v is in field v - 1.
struct PackedChannels {
  static constexpr uint32_t kBits = 2;
  static constexpr int kVectors = 3;
  static constexpr int32_t kOffset = kCrtWeightOffset;
  static constexpr int32_t channel_factor(int vector) { return kCrtModuli[vector] + 1; }

  static void widen(const uint8_t* packed, size_t groups, int8_t* wide) {
    __m512i index[kVectors], table[kVectors];
    for (uint32_t v = 0; v < kVectors; ++v) {
      uint64_t matrix = 0;  // field v in bits 0 and 1, field 3 in bits 2 and 3
      for (uint32_t i = 0; i < 4; ++i)
        matrix |= (uint64_t{1} << (i < 2 ? 2 * v + i : 4 + i)) << (8 * (7 - i));
      index[v] = _mm512_set1_epi64(static_cast<long long>(matrix));
      alignas(16) int8_t bytes[16];
      for (int32_t i = 0; i < 16; ++i) {
        const int32_t own = ((i & 3) ^ 2) - 2, shared = (i >> 2 ^ 2) - 2;
        bytes[i] = static_cast<int8_t>(kCrtModuli[v] * own + shared + kOffset);
      }
      table[v] = byte_table(bytes);
    }
    for (size_t g = 0; g < groups; ++g, packed += 64, wide += 64 * kVectors) {
      const __m512i line = _mm512_loadu_si512(packed);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v)
        _mm512_store_si512(
            wide + 64 * v,
            _mm512_shuffle_epi8(table[v], _mm512_gf2p8affine_epi64_epi8(line, index[v], 0)));
    }
  }
};

// 3 pixels to 2 rows.
struct PixelPairs {
  static constexpr int32_t kMaxActivation = 3;
  static constexpr uint32_t kPixels = 3, kRows = 2;
  static constexpr int32_t pixel_factor(uint32_t row) { return kCrtModuli[row] + 1; }

  __m512i table[kRows] = {times_table(kCrtModuli[0]), times_table(kCrtModuli[1])};
  void pack(const __m512i codes[kPixels], __m512i rows[kRows]) const {
    rows[0] = _mm512_add_epi8(times(table[0], codes[0]), codes[1]);
    rows[1] = _mm512_add_epi8(times(table[1], codes[2]), codes[1]);
  }
};

struct PairsByTriples : PackedChannels, PixelPairs {  // 12 sums from 6
  static constexpr uint32_t kGroups = 4, kMaxBlocks = 8;
  static constexpr int32_t kHalfShift = 3;  // -6 to 3
  static_assert(9 * kMaxBlocks * kCrtBlock / 2 <= kCrtBothMax);

  static void decode(const int32_t* packed, const int32_t* from, size_t step, int32_t* to) {
    __m512 t[kRows][kVectors];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i)
      t[i / kVectors][i % kVectors] = _mm512_cvtepi32_ps(_mm512_load_si512(packed + 16 * i));
    __m512i x[4][kPixels];
    crt_pair_of_triples(t[0], t[1], x);
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v)
#pragma GCC unroll 3
      for (size_t p = 0; p < kPixels; ++p)
        add_sums(from + p * step + 16 * v, x[v][p], to + p * kPanelChannels + 16 * v);
  }
};

struct TriplesOfChannels : PackedChannels {  // 4 sums from 3
  static constexpr int32_t kMaxActivation = 15;
  static constexpr uint32_t kPixels = 1, kRows = 1, kGroups = 9, kMaxBlocks = 12;
  static constexpr int32_t kHalfShift = 15;  // -30 to 15
  static_assert(45 * kMaxBlocks * kCrtBlock / 2 <= kCrtTripleMax);
  static constexpr int32_t pixel_factor(uint32_t) { return 1; }

  void pack(const __m512i codes[kPixels], __m512i rows[kRows]) const { rows[0] = codes[0]; }
  static void decode(const int32_t* packed, const int32_t* from, size_t, int32_t* to) {
    __m512 t[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v)
      t[v] = _mm512_cvtepi32_ps(_mm512_load_si512(packed + 16 * v));
    __m512i x[4];
    crt_triple(t, x);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) add_sums(from + 16 * v, x[v], to + 16 * v);
  }
};

struct TriplesOfPixels {  // 4 sums from 3, any weights of 4 bits
  static constexpr uint32_t kBits = 4;
  static constexpr int kVectors = 4;
  static constexpr int32_t kOffset = 0, kMaxActivation = 3;
  static constexpr uint32_t kPixels = 4, kRows = 3, kGroups = 2, kMaxBlocks = 12;
  static constexpr int32_t kHalfShift = 3;  // -24 to 21
  static_assert(45 * kMaxBlocks * kCrtBlock / 2 <= kCrtTripleMax);
  static constexpr int32_t pixel_factor(uint32_t row) { return kCrtModuli[row] + 1; }
  static constexpr int32_t channel_factor(int) { return 1; }

  static void widen(const uint8_t* packed, size_t groups, int8_t* wide) {
    widen_all<kBits>(packed, groups, wide);
  }
  __m512i table[kRows] = {times_table(kCrtModuli[0]), times_table(kCrtModuli[1]),
                          times_table(kCrtModuli[2])};
  void pack(const __m512i codes[kPixels], __m512i rows[kRows]) const {
#pragma GCC unroll 3
    for (uint32_t r = 0; r < kRows; ++r)
      rows[r] = _mm512_add_epi8(times(table[r], codes[r]), codes[3]);
  }
  static void decode(const int32_t* packed, const int32_t* from, size_t step, int32_t* to) {
#pragma GCC unroll 4
    for (uint32_t v = 0; v < kVectors; ++v) {
      __m512 t[kRows];
#pragma GCC unroll 3
      for (uint32_t r = 0; r < kRows; ++r)
        t[r] = _mm512_cvtepi32_ps(_mm512_load_si512(packed + 16 * (r * kVectors + v)));
      __m512i x[kPixels];
      crt_triple(t, x);
#pragma GCC unroll 4
      for (uint32_t p = 0; p < kPixels; ++p)
        add_sums(from + p * step + 16 * v, x[p], to + p * kPanelChannels + 16 * v);
    }
  }
};

}  // namespace
}  // namespace mpq::kernels
