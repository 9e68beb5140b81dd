// Exact integer Winograd F(2x2, 3x3): 2 x 2 outputs of a 3x3 stride-1 convolution from 16 products
// an input channel instead of 36. Layout "winograd64_s4_v1".
//
//   V = B^T d B      d: 4 x 4 input codes      B^T = 1  0 -1  0    A^T = 1 1  1  0
//   U = G g G^T      g: 3 x 3 weights                0  1  1  0          0 1 -1 -1
//   Y = A^T (sum over c of U * V) A / 4              0 -1  1  0    G = 2  0  0
//                                                    0  1  0 -1        1  1  1
//                                                                      1 -1  1
//                                                                      0  0  2
// G is twice the textbook's, so everything is an integer and Y an exact quarter. With codes 0..15
// and weights -8..7, V lies in -30..60 and U in -72..67: V + 30 is a u8 and U an s8, the operands
// of vpdpbusd. The 30 costs a constant per position and channel, stored with the weights.
//
//   packed: [panel]{ int32 start[16 positions][64] = -30 * sum of U; then
//                    [k-group of 4 channels][tap 0..8][128 bytes as in panel64_s4] }
#pragma once

#include "kernels/conv/panels.h"

namespace mpq::kernels {

constexpr int32_t kWinogradOffset = 30;
constexpr size_t kWinogradStartBytes = 16 * 64 * sizeof(int32_t);

// Input channels are taken in vectors of cb bytes.
[[maybe_unused]] static constexpr size_t winograd_groups(const ConvShape& s, uint32_t cb) {
  return size_t{(s.c + cb - 1) / cb} * (cb / 4);
}
[[maybe_unused]] static constexpr size_t winograd_panel_bytes(const ConvShape& s, uint32_t cb) {
  return kWinogradStartBytes + winograd_groups(s, cb) * 9 * 128;
}

bool winograd_fits(const ConvShape&, uint32_t cb);
size_t winograd_bytes(const ConvShape&, uint32_t cb);
void pack_winograd(const ConvShape&, uint32_t cb, const int8_t* canonical, void* packed);

}  // namespace mpq::kernels
