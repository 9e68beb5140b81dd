// The multiply loop of every AVX-512 VNNI row: up to 14 pixels times 32 channels, or up to 7 pixels
// times 64, in 28 accumulators. For AVX-512 files only; all static, so nothing leaks into other
// code.
//
//            w0          w1           vpdpbusd: 16 channels x 4 k of u8 x s8, two a cycle.
//   a0   acc[0][0]   acc[0][1]        A k-group loads 2 weight vectors and 14 broadcasts for 28
//   ...                               multiplies, so the loads (2 a cycle) stay hidden.
//   a13  acc[13][0]  acc[13][1]
//
// The sums go to a small buffer in L1: stores and loads use other ports than the multiplies, and
// one epilogue then serves every shape.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/conv/blocks.h"
#include "kernels/conv/widen_avx512.h"

namespace mpq::kernels {

struct TileArgs {
  const uint8_t* x;          // first pixel's input
  ptrdiff_t pixel;           // bytes from an output pixel's input to the next one's
  const ptrdiff_t* offsets;  // where each k-group's 4 bytes lie from there
  size_t groups;
  const int8_t* w;            // first vector used, of the panel's first k-group
  const int32_t* start;       // accumulators start here: [pixel][start_step]
  size_t start_step;          // 0: the same for every pixel
  const int32_t* correction;  // taken off every sum of a pixel; null: nothing
  int32_t* sums;              // [pixel][sums_step]
  size_t sums_step;
  const int8_t* prefetch;  // weights needed next, brought to L2 on the way
  size_t prefetch_step;    // a k-group: 64, or 0 when there is nothing to fetch
};

using TileFn = void (*)(const TileArgs&);

// g++ 12 moves the intrinsic's accumulator through other registers and spills; clang 14 moves all
// broadcasts to the front and spills. Volatile keeps the order as written.
#define MPQ_DPBUSD(acc, a, w) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(w))
#define MPQ_DPBUSD_MEM(acc, a, w) \
  __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "m"(w))

#define MPQ_BROADCAST(a, code) __asm__ volatile("vpbroadcastd %1, %0" : "=v"(a) : "m"(code))

// Uses a vector: g++ 12 would else give its register to the last accumulator of a step and move
// that back in front of the next one.
#define MPQ_KEEP(vector) __asm__ volatile("" : : "v"(vector))

typedef int32_t UnalignedInt __attribute__((may_alias, aligned(1)));

// kStep: t.pixel where it is known, so that pixels are displacements of one address and next to no
// additions take ports from the multiplies: 96 to 98 % of their peak instead of 82 to 94; or 0.
template <int kPixels, int kVectors, int kStep>
static void multiply_tile_at(const TileArgs& t) {
  __m512i acc[kPixels][kVectors];
  const int32_t* start = t.start;
#pragma GCC unroll 14
  for (int p = 0; p < kPixels; ++p, start += t.start_step)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[p][v] = _mm512_loadu_si512(start + 16 * v);

  // Pixel p is read at base[p / 3] + offset + (p % 3) * step: five bases and three indices.
  const ptrdiff_t step = t.pixel;
  const uint8_t* base[5];
  base[0] = t.x;
#pragma GCC unroll 4
  for (int i = 1; i < 5; ++i) base[i] = base[i - 1] + 3 * step;
  const int8_t* w = t.w;
  const int8_t* prefetch = t.prefetch;
#pragma GCC unroll 1
  for (size_t g = 0; g < t.groups; ++g, w += kGroupBytes) {
    _mm_prefetch(reinterpret_cast<const char*>(prefetch), _MM_HINT_T1);
    prefetch += t.prefetch_step;
    const ptrdiff_t offset = t.offsets[g];
    const uint8_t* x = t.x + offset;
    // Seven pixels by four vectors leave three registers for weights: the last stays in memory.
    constexpr int kHeld = kVectors < 4 ? kVectors : 3;
    __m512i held[kHeld];
#pragma GCC unroll 4
    for (int v = 0; v < kHeld; ++v) held[v] = _mm512_loadu_si512(w + 64 * v);
#pragma GCC unroll 14
    for (int p = 0; p < kPixels; ++p) {
      __m512i a;
      MPQ_BROADCAST(a, *reinterpret_cast<const UnalignedInt*>(
                           kStep != 0 ? x + p * kStep : base[p / 3] + (offset + (p % 3) * step)));
#pragma GCC unroll 4
      for (int v = 0; v < kHeld; ++v) MPQ_DPBUSD(acc[p][v], a, held[v]);
      if constexpr (kVectors > kHeld)
        MPQ_DPBUSD_MEM(acc[p][3], a, *reinterpret_cast<const __m512i_u*>(w + 192));
    }
#pragma GCC unroll 4
    for (int v = 0; v < kHeld; ++v) MPQ_KEEP(held[v]);
  }

  int32_t* sums = t.sums;
  const size_t sums_step = t.sums_step;
#pragma GCC unroll 14
  for (int p = 0; p < kPixels; ++p, sums += sums_step)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_si512(sums + 16 * v, acc[p][v]);
}

// By pixels: up to 7 make 64 channels in one pass, 8 to 14 make 32.
[[maybe_unused]] static constexpr uint32_t pass_channels(uint32_t pixels) {
  return pixels <= 7 ? 64 : 32;
}
// Every other pixel of an image (3 channels, or 4), neighbours in blocks of 64 channels, every
// other one of them, and inputs of 256 or 512 channels side by side; then any.
template <int kPixels, int kVectors>
static void multiply_tile(const TileArgs& t) {
  switch (t.pixel) {
    case 6:
      return multiply_tile_at<kPixels, kVectors, 6>(t);
    case 8:
      return multiply_tile_at<kPixels, kVectors, 8>(t);
    case 64:
      return multiply_tile_at<kPixels, kVectors, 64>(t);
    case 128:
      return multiply_tile_at<kPixels, kVectors, 128>(t);
    case 256:
      return multiply_tile_at<kPixels, kVectors, 256>(t);
    case 512:
      return multiply_tile_at<kPixels, kVectors, 512>(t);
    default:
      return multiply_tile_at<kPixels, kVectors, 0>(t);
  }
}

static constexpr TileFn kTiles[kMaxPixels + 1] = {nullptr,
                                                  multiply_tile<1, 4>,
                                                  multiply_tile<2, 4>,
                                                  multiply_tile<3, 4>,
                                                  multiply_tile<4, 4>,
                                                  multiply_tile<5, 4>,
                                                  multiply_tile<6, 4>,
                                                  multiply_tile<7, 4>,
                                                  multiply_tile<8, 2>,
                                                  multiply_tile<9, 2>,
                                                  multiply_tile<10, 2>,
                                                  multiply_tile<11, 2>,
                                                  multiply_tile<12, 2>,
                                                  multiply_tile<13, 2>,
                                                  multiply_tile<14, 2>};

}  // namespace mpq::kernels
