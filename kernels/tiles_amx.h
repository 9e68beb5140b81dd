// The tile registers of AMX, as its rows use them. For AMX files only.
//
// Register 0..3 hold sums [pixel][16 channels] of int32, 4 and 5 codes [pixel][k] of u8, 6 and 7
// weights [k / 4][16 channels][4 k] of s8. tests/kernels/tile_model.h is the same in portable C++,
// so that every machine with AVX-512 can prove the walk.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mpq::kernels {

struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

namespace {

// `pixels` rows of sums and codes, k-blocks of `groups` times 4 codes.
inline TileConfig tile_config(uint32_t pixels, uint32_t groups) {
  TileConfig config;
  for (int t = 0; t < 8; ++t) {
    config.rows[t] = static_cast<uint8_t>(t < 6 ? pixels : groups);
    config.row_bytes[t] = static_cast<uint16_t>(t == 4 || t == 5 ? groups * 4 : 64);
  }
  return config;
}

// Inline assembly: clang's tile intrinsics and g++ 12's differ in what they let the compiler move,
// and g++ 12's _tile_loadconfig claims to read 8 of the 64 bytes.
struct NativeTiles {
  void configure(const TileConfig& config) { __asm__ volatile("ldtilecfg %0" ::"m"(config)); }
  template <int kTile>
  void load(const void* from, size_t step) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(step), "i"(kTile) : "memory");
  }
  template <int kTile>
  void store(void* to, size_t step) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(step), "i"(kTile) : "memory");
  }
  template <int kSums, int kCodes, int kWeights>
  void multiply() {  // sums += codes (u8) * weights (s8)
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kCodes),
                     "i"(kWeights));
  }
  template <int kSums, int kCodes, int kWeights>
  void multiply_signed() {  // the same with signed codes
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kCodes),
                     "i"(kWeights));
  }
  template <int kTile>
  void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  void release() { __asm__ volatile("tilerelease"); }
};

}  // namespace
}  // namespace mpq::kernels
