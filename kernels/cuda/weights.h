// Packed weights of the CUDA convolutions, "gpu32x64_s{8,4,2}_v1": what a lane needs of 32 channels
// and 64 k is 16 bytes a piece, in the order the registers want, for every tile and architecture.
//
//   [o / 32][k / 64][w_bits / 2 pieces][lane][16 bytes]
//
// k runs over r, s, and the codes of a pixel of x, padding included (weights 0 there).
#pragma once

#include <cstddef>
#include <cstdint>

namespace mpq::cuda {

struct WeightsShape {
  uint32_t o = 0, c = 0, r = 1, s = 1;
  uint32_t x_pitch = 0;  // bytes of a pixel
  uint32_t a_bits = 0, w_bits = 0;
};
uint32_t k_steps(const WeightsShape&);
size_t weight_bytes(const WeightsShape&);
// canonical: [o][c][r][s], one int8 a code, in range of w_bits.
void pack_weights(const WeightsShape&, const int8_t* canonical, void* packed);

// A convolution of stride 2 over c <= 4 channels, as one of stride 1 over the image that
// quantize_image folds: canonical [o][c][r][s] to [o][16][ceil(r / 2)][ceil(s / 2)].
void fold_weights(uint32_t o, uint32_t c, uint32_t r, uint32_t s, const int8_t* canonical,
                  int8_t* folded);

}  // namespace mpq::cuda
