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
  ROW(conv_u8s8_128x64,  8, 8, Tile128x64,  false) \
  ROW(conv_u8s8_64x64,   8, 8, Tile64x64,   false) \
  ROW(conv_u8s8_32x64,   8, 8, Tile32x64,   false) \
  ROW(conv_u8s4_128x128, 8, 4, Tile128x128, false) \
  ROW(conv_u8s4_64x64,   8, 4, Tile64x64,   false) \
  ROW(conv_u8s4_32x64,   8, 4, Tile32x64,   false) \
  ROW(conv_u8s2_64x64,   8, 2, Tile64x64,   false) \
  ROW(conv_u4s8_64x64,   4, 8, Tile64x64,   false) \
  ROW(conv_u4s4_128x128, 4, 4, Tile128x128, false) \
  ROW(conv_u4s4_128x64,  4, 4, Tile128x64,  false) \
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

// ROW(name, struct of parameters, threads of a block, bytes of shared memory)
// clang-format off
#define MPQ_CUDA_OTHER_KERNELS(ROW)                                            \
  ROW(attention_64,   AttentionParams,    kAttentionThreads, 5 * 64 * 64)      \
  ROW(attention_32,   AttentionParams,    kAttentionThreads, 5 * 64 * 32)      \
  ROW(layer_norm,     LayerNormParams,    kLayerNormThreads, 0)                \
  ROW(max_pool,       PoolParams,         kElementThreads,   0)                \
  ROW(average_pool,   PoolParams,         kElementThreads,   0)                \
  ROW(add_codes,      AddParams,          kElementThreads,   0)                \
  ROW(quantize_f32,   QuantizeParams,     kElementThreads,   0)                \
  ROW(quantize_image, ImageParams,        kElementThreads,   0)                \
  ROW(activate_f32,   ActivateParams,     kElementThreads,   0)                \
  ROW(embed,          EmbeddingParams,    kSequenceThreads,  0)                \
  ROW(pool_sequences, SequencePoolParams, kSequenceThreads,  48000)
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

// The other kernels.
constexpr uint32_t kAttentionThreads = 128, kAttentionQueries = 64;
constexpr uint32_t kLayerNormThreads = 128, kElementThreads = 128, kSequenceThreads = 256;

struct OtherKernel {
  const char* name;
  size_t params_bytes;
  uint32_t threads, shared_bytes;
};
inline constexpr OtherKernel kOtherKernels[] = {
#define MPQ_ROW(name, params, threads, shared_bytes) {#name, sizeof(params), threads, shared_bytes},
    MPQ_CUDA_OTHER_KERNELS(MPQ_ROW)
#undef MPQ_ROW
};

// How many blocks a launch has.
struct Grid {
  uint32_t x = 1, y = 1, z = 1;
};
constexpr uint32_t blocks_of(uint64_t items, uint32_t each) {
  return static_cast<uint32_t>((items + each - 1) / each);
}
// Pixels in groups of 8 channels.
constexpr Grid grid_of_elements(uint64_t pixels, uint32_t channels) {
  return {blocks_of(pixels * ((channels + 7) / 8), kElementThreads)};
}
constexpr Grid grid_of(const ConvKernel& k, const ConvParams& p) {
  return {blocks_of(uint64_t{p.n} * p.oh * p.ow, k.tile_m), blocks_of(p.o, k.tile_n), p.splits};
}
constexpr Grid grid_of(const AttentionParams& p) {
  return {blocks_of(p.max_length, kAttentionQueries), p.heads, p.sequences};
}
constexpr Grid grid_of(const LayerNormParams& p) {
  return {blocks_of(uint64_t{p.tokens} * 16, kLayerNormThreads)};
}
constexpr Grid grid_of(const PoolParams& p) {
  return grid_of_elements(uint64_t{p.n} * p.oh * p.ow, p.c);
}
constexpr Grid grid_of(const AddParams& p) { return grid_of_elements(p.pixels, p.c); }
constexpr Grid grid_of(const QuantizeParams& p) {
  return grid_of_elements(uint64_t{p.n} * p.h * p.w, p.c);
}
constexpr Grid grid_of(const ImageParams& p) {
  return grid_of_elements(uint64_t{p.n} * p.oh * p.ow, p.fold == 2 ? 16 : p.c);
}
constexpr Grid grid_of(const ActivateParams& p) { return grid_of_elements(p.rows, p.width); }
constexpr Grid grid_of(const EmbeddingParams& p) { return {p.max_length, p.sequences}; }
constexpr Grid grid_of(const SequencePoolParams& p) { return {p.sequences}; }

}  // namespace mpq::cuda
