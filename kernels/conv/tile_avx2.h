// The multiply loop of the AVX2 rows: up to 6 pixels x 16 channels in 12 registers of sums.
//
// Narrow: a k-group of a pixel is one broadcast, two vpmaddubsw and two vpaddw, 16-bit sums.
// Words: codes and weights have 16 bits, a group is 2 k: vpmaddwd and vpaddd, sums are exact. Four
// ports add and two of them multiply: 80 % of the multipliers' peak is what the core's own choice
// of ports leaves (Zen 3; 64 products a cycle would be all). Inline assembly because g++ 12 spills
// accumulators otherwise (half the speed).
#pragma once

#include <immintrin.h>

#include "kernels/conv/quarters.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kTilePixels = 6;

typedef int32_t UnalignedInt __attribute__((may_alias, aligned(1)));

struct TileArgs {
  const uint8_t* const* pixels;  // under the first tap of each one
  const ptrdiff_t* offsets;      // of each step of k-groups
  size_t steps;
  size_t steps_at_once;  // narrow: as many as cannot leave 16 bits
  const int8_t* w;
  const int32_t* start;  // [pixel][start_step], sums begin here
  size_t start_step;
  int32_t* sums;                     // [pixel][64]
  const int8_t* prefetch = nullptr;  // a line of it at each step
};

inline __m256i broadcast_codes(const uint8_t* at) {
  return _mm256_set1_epi32(*reinterpret_cast<const UnalignedInt*>(at));
}
inline __m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
inline void store(void* at, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(at), value);
}

enum class Products { narrow, words };

// One group of a pixel: sums += codes at pixel + offset + 4 * kGroup, broadcast, times w.
#define MPQ_MULTIPLY(MULTIPLY, ADD)                                                             \
  __asm__ volatile("vpbroadcastd %c[at](%[pixel],%[offset]), %[a]\n\t" MULTIPLY                 \
                   " %[w0], %[a], %[t]\n\t" MULTIPLY " %[w1], %[a], %[a]\n\t" ADD               \
                   " %[t], %[sum0], %[sum0]\n\t" ADD " %[a], %[sum1], %[sum1]"                  \
                   : [a] "=&x"(a), [t] "=&x"(t), [sum0] "+x"(acc[p][0]), [sum1] "+x"(acc[p][1]) \
                   : [pixel] "r"(pixels[p]), [offset] "r"(offset), [at] "i"(4 * kGroup),        \
                     [w0] "x"(w0), [w1] "x"(w1)                                                 \
                   : "memory")

// kGroups groups of all pixels, which lie at pixels[i] + offset, 4 bytes apart. Recursive, so that
// the distance is a constant of the instruction without any optimisation, too.
template <int kPixels, int kGroups, Products kProducts = Products::narrow, int kGroup = 0>
inline __attribute__((always_inline)) void multiply_groups(const uint8_t* const pixels[kPixels],
                                                           ptrdiff_t offset, const int8_t* w,
                                                           __m256i acc[kPixels][2]) {
  const __m256i w0 = load(w), w1 = load(w + 32);
#pragma GCC unroll 6
  for (int p = 0; p < kPixels; ++p) {
    __m256i a, t;
    if constexpr (kProducts == Products::narrow)
      MPQ_MULTIPLY("vpmaddubsw", "vpaddw");
    else
      MPQ_MULTIPLY("vpmaddwd", "vpaddd");
  }
  if constexpr (kGroup + 1 < kGroups)
    multiply_groups<kPixels, kGroups, kProducts, kGroup + 1>(pixels, offset, w + kQuarterGroup,
                                                             acc);
}
#undef MPQ_MULTIPLY

template <int kPixels, int kGroups, Products kProducts = Products::narrow>
void multiply_tile(const TileArgs& t) {
  const uint8_t* pixels[kPixels];
#pragma GCC unroll 6
  for (int p = 0; p < kPixels; ++p) pixels[p] = t.pixels[p];
  const __m256i ones = _mm256_set1_epi16(1);
  const ptrdiff_t* offset = t.offsets;
  const int8_t* w = t.w;
  const int32_t* from = t.start;
  size_t from_step = t.start_step;
  const int8_t* ahead = t.prefetch;
  for (size_t left = t.steps; left > 0;) {
    const size_t steps = left < t.steps_at_once ? left : t.steps_at_once;
    left -= steps;
    __m256i acc[kPixels][2];
#pragma GCC unroll 12
    for (int i = 0; i < kPixels * 2; ++i) acc[i / 2][i % 2] = _mm256_setzero_si256();
    const ptrdiff_t* end = offset + steps;
#pragma GCC unroll 1
    for (; offset != end; ++offset, w += kGroups * kQuarterGroup, ahead += 64) {
      __builtin_prefetch(ahead, 0, 2);
      multiply_groups<kPixels, kGroups, kProducts>(pixels, *offset, w, acc);
    }
#pragma GCC unroll 12
    for (int i = 0; i < kPixels * 2; ++i) {
      __m256i sum = acc[i / 2][i % 2];
      if constexpr (kProducts == Products::narrow) sum = _mm256_madd_epi16(sum, ones);
      store(t.sums + i / 2 * kPanelChannels + i % 2 * 8,
            _mm256_add_epi32(sum, load(from + i / 2 * from_step + i % 2 * 8)));
    }
    from = t.sums;
    from_step = kPanelChannels;
  }
}

using TileFn = void (*)(const TileArgs&);

// [pixels - 1]
template <int kGroups, Products kProducts = Products::narrow>
constexpr TileFn kTiles[kTilePixels] = {
    multiply_tile<1, kGroups, kProducts>, multiply_tile<2, kGroups, kProducts>,
    multiply_tile<3, kGroups, kProducts>, multiply_tile<4, kGroups, kProducts>,
    multiply_tile<5, kGroups, kProducts>, multiply_tile<6, kGroups, kProducts>};

}  // namespace
}  // namespace mpq::kernels
