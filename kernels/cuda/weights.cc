#include "kernels/cuda/weights.h"

#include <cstring>

#include "kernels/cuda/tile.h"

namespace mpq::cuda {
namespace {

int8_t weight_at(const WeightsShape& s, const int8_t* canonical, uint32_t o, uint32_t k) {
  const uint32_t pixel_codes = s.x_pitch * 8 / s.a_bits, tap = k / pixel_codes, c = k % pixel_codes;
  if (o >= s.o || c >= s.c || tap >= s.r * s.s) return 0;
  return canonical[(size_t{o} * s.c + c) * s.r * s.s + tap];
}

}  // namespace

uint32_t k_steps(const WeightsShape& s) {
  return (s.r * s.s * (s.x_pitch * 8 / s.a_bits) + 63) / 64;
}

size_t weight_bytes(const WeightsShape& s) {
  return size_t{(s.o + 31) / 32} * k_steps(s) * 32 * 64 * s.w_bits / 8;
}

void pack_weights(const WeightsShape& s, const int8_t* canonical, void* packed) {
  std::memset(packed, 0, weight_bytes(s));
  const uint32_t steps = k_steps(s), mask = (1U << s.w_bits) - 1;
  for (uint32_t block = 0; block < (s.o + 31) / 32; ++block)
    for (uint32_t step = 0; step < steps; ++step) {
      auto* to = static_cast<uint32_t*>(packed) + (size_t{block} * steps + step) * 64 * s.w_bits;
      for (uint32_t tile = 0; tile < 4; ++tile)
        for (uint32_t lane = 0; lane < 32; ++lane)
          for (uint32_t half = 0; half < 2; ++half)
            for (uint32_t j = 0; j < 2; ++j)
              for (uint32_t e = 0; e < 4; ++e) {
                // Fields of one word: 4 codes of 8 bits of its own (half, j); 8 of 4 bits of both
                // halves; 16 of 2 bits of all four.
                const uint32_t word = s.w_bits == 8   ? tile * 4 + 2 * half + j
                                      : s.w_bits == 4 ? tile * 2 + j
                                                      : tile;
                const uint32_t field = s.w_bits == 8   ? e
                                       : s.w_bits == 4 ? 2 * e + half
                                                       : 4 * e + 2 * half + j;
                const int8_t w = weight_at(s, canonical, block * 32 + channel_of(tile, lane / 4),
                                           step * 64 + k_of(s.a_bits, half, j, lane % 4, e));
                to[(word / 4 * 32 + lane) * 4 + word % 4] |= (static_cast<uint32_t>(w) & mask)
                                                             << (field * s.w_bits);
              }
    }
}

void fold_weights(uint32_t o, uint32_t c, uint32_t r, uint32_t s, const int8_t* canonical,
                  int8_t* folded) {
  const uint32_t rows = (r + 1) / 2, columns = (s + 1) / 2;
  std::memset(folded, 0, size_t{o} * 16 * rows * columns);
  for (uint32_t i = 0; i < o; ++i)
    for (uint32_t j = 0; j < c; ++j)
      for (uint32_t y = 0; y < r; ++y)
        for (uint32_t x = 0; x < s; ++x) {
          const uint32_t channel = (y % 2 * 2 + x % 2) * 4 + j;
          folded[((size_t{i} * 16 + channel) * rows + y / 2) * columns + x / 2] =
              canonical[((size_t{i} * c + j) * r + y) * s + x];
        }
}

}  // namespace mpq::cuda
