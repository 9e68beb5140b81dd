// The list of the CUDA kernels, for whoever launches, tests or measures them. Every entry point is
// extern "C" and takes one struct of params.h by value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/params.h"
#include "kernels/cuda/tile.h"

// ROW(name, activation bits, weight bits, tile, GELU in the epilogue)
// clang-format off
#define MPQ_CUDA_CONV_KERNELS(ROW)             \
  ROW(conv_u8s8_128x128, 8, 8, Tile128x128, false) \
  ROW(conv_u8s8_64x64,   8, 8, Tile64x64,   false) \
  ROW(conv_u8s8_32x64,   8, 8, Tile32x64,   false) \
  ROW(conv_u8s4_128x128, 8, 4, Tile128x128, false) \
  ROW(conv_u8s4_64x64,   8, 4, Tile64x64,   false) \
  ROW(conv_u8s4_32x64,   8, 4, Tile32x64,   false) \
  ROW(conv_u8s2_64x64,   8, 2, Tile64x64,   false) \
  ROW(conv_u4s8_64x64,   4, 8, Tile64x64,   false) \
  ROW(conv_u4s4_128x128, 4, 4, Tile128x128, false) \
  ROW(conv_u4s4_64x64,   4, 4, Tile64x64,   false) \
  ROW(conv_u4s4_32x64,   4, 4, Tile32x64,   false) \
  ROW(conv_u4s2_128x128, 4, 2, Tile128x128, false) \
  ROW(conv_u4s2_64x64,   4, 2, Tile64x64,   false) \
  ROW(conv_u4s2_32x64,   4, 2, Tile32x64,   false) \
  ROW(conv_u2s8_64x64,   2, 8, Tile64x64,   false) \
  ROW(conv_u2s4_64x64,   2, 4, Tile64x64,   false) \
  ROW(conv_u2s2_128x128, 2, 2, Tile128x128, false) \
  ROW(conv_u2s2_64x64,   2, 2, Tile64x64,   false) \
  ROW(conv_u2s2_32x64,   2, 2, Tile32x64,   false) \
  ROW(conv_u8s8_64x64_gelu, 8, 8, Tile64x64, true) \
  ROW(conv_u8s4_64x64_gelu, 8, 4, Tile64x64, true) \
  ROW(conv_u8s2_64x64_gelu, 8, 2, Tile64x64, true) \
  ROW(conv_u4s4_64x64_gelu, 4, 4, Tile64x64, true) \
  ROW(conv_u4s2_64x64_gelu, 4, 2, Tile64x64, true)
// clang-format on

namespace mpq::cuda {

struct ConvKernel {
  const char* name;
  uint32_t a_bits, w_bits;
  bool gelu;                // may be launched with an activation
  uint32_t tile_m, tile_n;  // grid: (ceil(m / tile_m), ceil(o / tile_n), splits)
  uint32_t threads;
  uint32_t shared_bytes;  // from sm_80 on
  uint32_t shared_bytes_sm75;
  uint32_t tile_sums;  // int32 entries of ConvParams::partial, a tile
};

inline constexpr ConvKernel kConvKernels[] = {
#define MPQ_ROW(name, a, w, tile, gelu) \
  {#name,                               \
   a,                                   \
   w,                                   \
   gelu,                                \
   tile::kM,                            \
   tile::kN,                            \
   tile::kThreads,                      \
   Stage<a, w, tile>::shared_bytes(80), \
   Stage<a, w, tile>::shared_bytes(75), \
   tile::kSums * tile::kThreads},
    MPQ_CUDA_CONV_KERNELS(MPQ_ROW)
#undef MPQ_ROW
};

}  // namespace mpq::cuda
