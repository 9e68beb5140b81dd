// The multiply loop of every AVX-512 VNNI row: up to 14 pixels times 32 channels, or up to 7 pixels
// times 64, in 28 accumulators. For AVX-512 files only; all static, so nothing leaks into other code.
//
//            w0          w1           vpdpbusd: 16 channels x 4 k of u8 x s8, two a cycle.
//   a0   acc[0][0]   acc[0][1]        A k-group loads 2 weight vectors and 14 broadcasts for 28
//   ...                               multiplies, so the loads (2 a cycle) stay hidden.
//   a13  acc[13][0]  acc[13][1]
//
// The sums go to a small buffer in L1: stores and loads use other ports than the multiplies, and one
// epilogue then serves every shape.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace mpq::kernels {

constexpr uint32_t kPanelChannels = 64;  // channels of a weight panel: four vectors of int32
constexpr uint32_t kMaxPixels = 14;      // pixels of a block
constexpr uint32_t kGroupBytes = 256;    // one k-group (4 k) of a panel

// One contiguous run of k per (block, row, tap); weights follow in the same order.
struct TileArgs {
  const uint8_t* x;
  ptrdiff_t pixel;             // bytes from an output pixel's input to the next one's
  uint32_t blocks, rows, taps;
  ptrdiff_t block_step, row_step, tap_step;
  uint32_t groups;             // k-groups of a run
  const int8_t* w;             // first vector used, of the panel's first k-group
  const int32_t* start;        // accumulators start here, one a channel
  int32_t* sums;               // [pixel][64]
  const int8_t* prefetch;      // next weights, brought to L2 on the way
  uint32_t prefetch_bytes;     // a run
};

using TileFn = void (*)(const TileArgs&);

// g++ 12 moves the intrinsic's accumulator through other registers and spills; this does not.
#define MPQ_DPBUSD(acc, a, w) __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(w))
#define MPQ_DPBUSD_MEM(acc, a, w) __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "m"(w))

typedef int32_t UnalignedInt __attribute__((may_alias, aligned(1)));

template <int kPixels, int kVectors>
static void multiply_tile(const TileArgs& t) {
  __m512i acc[kPixels][kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const __m512i start = _mm512_loadu_si512(t.start + 16 * v);
#pragma GCC unroll 14
    for (int p = 0; p < kPixels; ++p) acc[p][v] = start;
  }

  const int8_t* w = t.w;
  const int8_t* prefetch = t.prefetch;
  const ptrdiff_t step = t.pixel;
  for (uint32_t b = 0; b < t.blocks; ++b)
    for (uint32_t r = 0; r < t.rows; ++r)
      for (uint32_t q = 0; q < t.taps; ++q) {
        for (uint32_t i = 0; i < t.prefetch_bytes; i += 64)
          _mm_prefetch(reinterpret_cast<const char*>(prefetch + i), _MM_HINT_T1);
        prefetch += t.prefetch_bytes;
        // Pixel p is read at base[p / 3] + (p % 3) * step: five bases and scaled indices.
        const uint8_t* base[5];
        base[0] = t.x + b * t.block_step + r * t.row_step + q * t.tap_step;
#pragma GCC unroll 4
        for (int i = 1; i < 5; ++i) base[i] = base[i - 1] + 3 * step;
#pragma GCC unroll 1
        for (uint32_t g = 0; g < t.groups; ++g) {
          // Seven pixels by four vectors leave three registers for weights: the last stays in memory.
          constexpr int kHeld = kVectors < 4 ? kVectors : 3;
          __m512i held[kHeld];
#pragma GCC unroll 4
          for (int v = 0; v < kHeld; ++v) held[v] = _mm512_loadu_si512(w + 64 * v);
#pragma GCC unroll 14
          for (int p = 0; p < kPixels; ++p) {
            const __m512i a = _mm512_set1_epi32(
                *reinterpret_cast<const UnalignedInt*>(base[p / 3] + (p % 3) * step));
#pragma GCC unroll 4
            for (int v = 0; v < kHeld; ++v) MPQ_DPBUSD(acc[p][v], a, held[v]);
            if constexpr (kVectors > kHeld)
              MPQ_DPBUSD_MEM(acc[p][3], a, *reinterpret_cast<const __m512i_u*>(w + 192));
          }
          w += kGroupBytes;
#pragma GCC unroll 5
          for (int i = 0; i < 5; ++i) base[i] += 4;
        }
      }

#pragma GCC unroll 14
  for (int p = 0; p < kPixels; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      _mm512_storeu_si512(t.sums + p * kPanelChannels + 16 * v, acc[p][v]);
}

// Sums of `pixels` (1..14) times 64 channels.
static void multiply_block(TileArgs t, uint32_t pixels) {
  static constexpr TileFn kNarrow[] = {multiply_tile<1, 4>, multiply_tile<2, 4>, multiply_tile<3, 4>,
                                       multiply_tile<4, 4>, multiply_tile<5, 4>, multiply_tile<6, 4>,
                                       multiply_tile<7, 4>};
  static constexpr TileFn kWide[] = {multiply_tile<8, 2>,  multiply_tile<9, 2>,  multiply_tile<10, 2>,
                                     multiply_tile<11, 2>, multiply_tile<12, 2>, multiply_tile<13, 2>,
                                     multiply_tile<14, 2>};
  if (pixels <= 7) {
    kNarrow[pixels - 1](t);
    return;
  }
  const TileFn tile = kWide[pixels - 8];
  t.prefetch_bytes /= 2;
  tile(t);
  t.prefetch += t.blocks * t.rows * t.taps * t.prefetch_bytes;
  t.w += 128;
  t.start += 32;
  t.sums += 32;
  tile(t);
}

}  // namespace mpq::kernels
