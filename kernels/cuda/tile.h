// How the matrix product is cut: shared by the kernels and by the host that launches them and packs
// weights for them. Constants and index arithmetic only.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace mpq::cuda {

// A block of warps_m x warps_n warps computes kM pixels x kN channels; a warp 16 * rows16 pixels x
// 32 channels.
template <uint32_t warps_m, uint32_t warps_n, uint32_t rows16>
struct Tile {
  static constexpr uint32_t kWarpsM = warps_m, kRows16 = rows16;
  static constexpr uint32_t kM = warps_m * rows16 * 16, kN = warps_n * 32;
  static constexpr uint32_t kThreads = 32 * warps_m * warps_n;
  static constexpr uint32_t kSums = 16 * rows16;  // of a thread
};
using Tile128x128 = Tile<2, 4, 4>;
using Tile128x64 = Tile<2, 2, 4>;
using Tile64x64 = Tile<2, 2, 2>;
using Tile32x64 = Tile<2, 2, 1>;

// k goes in steps of 64 codes. A stage of shared memory holds kDepth codes of kM pixels, then of kN
// channels; on sm_75, which stages through registers, there are two stages.
template <uint32_t a_bits, uint32_t w_bits, typename T>
struct Stage {
  static constexpr uint32_t kDepth = a_bits == 8 ? 64 : 128, kSteps = kDepth / 64;
  static constexpr uint32_t kRowBytes = kDepth * a_bits / 8, kRowChunks = kRowBytes / 16;
  static constexpr uint32_t kABytes = T::kM * kRowBytes, kBBytes = T::kN * kDepth * w_bits / 8;
  static constexpr uint32_t kBytes = kABytes + kBBytes;
  static constexpr uint32_t kFitting = 48 * 1024 / kBytes;
  MPQ_EVERYWHERE static constexpr uint32_t stages(uint32_t arch) {
    return arch < 80 ? 2 : kFitting < 4 ? kFitting : 4;
  }
  MPQ_EVERYWHERE static constexpr uint32_t shared_bytes(uint32_t arch) {
    return stages(arch) * kBytes;
  }
};

// Where 16-byte chunk `chunk` of row `row` lies: 8 rows at one chunk are in 8 different groups of
// banks, for ldmatrix.
template <uint32_t row_bytes>
MPQ_EVERYWHERE constexpr uint32_t swizzled(uint32_t row, uint32_t chunk) {
  constexpr uint32_t kChunks = row_bytes / 16,
                     kRowsOfAllBanks = row_bytes < 128 ? 128 / row_bytes : 1;
  return row * row_bytes + ((chunk ^ (row / kRowsOfAllBanks % kChunks)) * 16);
}

// Width of the multiplication: 4 bits where the architecture has it and the codes fit.
MPQ_EVERYWHERE constexpr uint32_t math_bits(uint32_t a_bits, uint32_t w_bits, uint32_t arch) {
  return a_bits <= 4 && w_bits <= 4 && arch < 90 ? 4 : 8;
}

// Narrow weights are multiplied in the top bits of their field: sums come out times 2^shift.
MPQ_EVERYWHERE constexpr uint32_t weight_shift(uint32_t w_bits, uint32_t math) {
  return math - (w_bits < math ? w_bits : math);
}

// Which k of a step of 64 meets which place of the registers: of the product `half` of two of 8-bit
// codes, register `j` of a row, lane 4 g + t, byte `e`. Activations keep their order in memory and
// are split into even and odd codes, or four ways; weights are packed to follow. The 4-bit product
// has code i = 2 e + half.
MPQ_EVERYWHERE constexpr uint32_t k_of(uint32_t a_bits, uint32_t half, uint32_t j, uint32_t t,
                                       uint32_t e) {
  return a_bits == 8   ? 32 * half + 16 * j + 4 * t + e
         : a_bits == 4 ? 32 * j + 8 * t + 2 * e + half
                       : 16 * t + 4 * e + 2 * half + j;
}

// Channel of 32 that column n of 8 of the product `tile` of 4 is: lane 4 g + t then holds channels
// 8 t .. 8 t + 7, neighbours in memory.
MPQ_EVERYWHERE constexpr uint32_t channel_of(uint32_t tile, uint32_t n) {
  return n / 2 * 8 + 2 * tile + n % 2;
}

}  // namespace mpq::cuda
