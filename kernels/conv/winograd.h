// Exact integer Winograd F(m x m, 3x3): m x m outputs of a 3x3 stride-1 convolution from
// (m + 2)^2 products an input channel instead of 9 m^2. Toom's algorithm in two dimensions (S.
// Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, 2016), with every
// matrix scaled to integers.
//
//   V = B^T d B      d: (m + 2)^2 input codes
//   U = G g G^T      g: 3 x 3 weights
//   Y = A^T (sum over c of U * V) A / divisor      exactly
//
// F(2 x 2), points 0, 1, -1, infinity; divisor 4:
//
//   B^T = 1  0 -1  0    G = 2  0  0    A^T = 1  1  1  0
//         0  1  1  0        1  1  1          0  1 -1  1
//         0 -1  1  0        1 -1  1
//         0 -1  0  1        0  0  2
//
// F(3 x 3), points 0, 1, -1, 2, infinity; divisor 36:
//
//   B^T = 2 -1 -2  1  0    G = 1  0  0    A^T = 3 -3 -1  1  0
//         0 -2 -1  1  0        1  1  1          0 -3  1  2  0
//         0  2 -3  1  0        1 -1  1          0 -3 -1  4  6
//         0 -1  0  1  0        1  2  4
//         0  2 -1 -2  1        0  0  1
//
// V + offset must be a u8 and U an s8, the operands of vpdpbusd. With codes 0..q and b-bit weights:
//
//               V              U                         V + offset, at the largest q
//   F(2 x 2)    -2 q .. 4 q    -72 .. 67  for b = 4      0 .. 252 for q = 42
//   F(3 x 3)    -18 q .. 18 q  -98 .. 49  for b = 2      0 .. 108 for q = 3
//
// The offset costs a constant per position and channel, stored with the weights. Sums before the
// division may wrap; the true multiple of Y that is divided does not.
//
//   packed: [panel]{ int32 start[(m + 2)^2 positions][64] = -offset * sum of U; then
//                    [k-group of 4 channels][tap 0..8][a k-group of panel64_s4 or _s2] }
#pragma once

#include "kernels/conv/panels.h"

namespace mpq::kernels {

struct WinogradForm {
  uint32_t m;              // rows and columns of outputs of a tile
  uint32_t bits;           // of weights
  int32_t max_activation;  // q
  int32_t offset;
  uint32_t max_channels;  // divisor * Y stays below 2^31

  constexpr uint32_t side() const { return m + 2; }  // rows and columns of a tile's input
  constexpr uint32_t positions() const { return side() * side(); }
  constexpr size_t start_bytes() const { return positions() * kPanelChannels * sizeof(int32_t); }
  constexpr size_t tap_bytes() const { return 32 * bits; }  // of a k-group
};
inline constexpr WinogradForm kWinograd2 = {
    .m = 2, .bits = 4, .max_activation = 42, .offset = 84, .max_channels = 1U << 17};
inline constexpr WinogradForm kWinograd3 = {
    .m = 3, .bits = 2, .max_activation = 3, .offset = 54, .max_channels = 1U << 19};

// Input channels are taken in vectors of cb bytes.
[[maybe_unused]] static constexpr size_t winograd_groups(const ConvShape& s, uint32_t cb) {
  return size_t{(s.c + cb - 1) / cb} * (cb / 4);
}
[[maybe_unused]] static constexpr size_t winograd_panel_bytes(const WinogradForm& form,
                                                              const ConvShape& s, uint32_t cb) {
  return form.start_bytes() + winograd_groups(s, cb) * 9 * form.tap_bytes();
}

bool winograd_fits(const WinogradForm&, const ConvShape&, uint32_t cb);
size_t winograd_bytes(const WinogradForm&, const ConvShape&, uint32_t cb);
void pack_winograd(const WinogradForm&, const ConvShape&, uint32_t cb, const int8_t* canonical,
                   void* packed);
float winograd_cost(const WinogradForm&, const ConvShape&);  // of the rows with vpdpbusd

}  // namespace mpq::kernels
