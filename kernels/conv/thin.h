// Convolution of images of fewer than 4 channels, whose pixels of 4 bytes are a quarter or more of
// nothing. Pixels lie close together in a copy, so the taps of a kernel row are one run of s * c
// bytes and its k-groups cut it without regard to pixels: 7 x 7 taps of 3 channels are 42 k-groups
// instead of 49.
//
//   packed, "thin64_s8_v1": panels of 64 output channels as panel64_s8, k in the order kernel row,
//   kernel column, channel; each kernel row ends in zeros to a multiple of 4
//
//   packed, "thin16_s16_v1": quarters of a panel, weights of 16 bits, so that vpmaddwd multiplies
//   them by codes of 16 bits exactly: [panel][quarter][pair of k][channel 0..15][k 0..1]; each
//   kernel row ends in zeros to a multiple of 2
#pragma once

#include "kernels/conv/quarters.h"

namespace mpq::kernels {

[[maybe_unused]] static constexpr size_t thin_row_groups(const ConvShape& s) {
  return (size_t{s.s} * s.c + 3) / 4;
}
[[maybe_unused]] static constexpr size_t thin_groups(const ConvShape& s) {
  return s.r * thin_row_groups(s);
}
[[maybe_unused]] static constexpr size_t thin_row_pairs(const ConvShape& s) {
  return (size_t{s.s} * s.c + 1) / 2;
}
bool thin_fits(const ConvShape&, uint32_t cb);
size_t thin_bytes(const ConvShape&, uint32_t cb);
void pack_thin(const ConvShape&, uint32_t cb, const int8_t* canonical, void* packed);
size_t thin_words_bytes(const ConvShape&, uint32_t cb);
void pack_thin_words(const ConvShape&, uint32_t cb, const int8_t* canonical, void* packed);
// Relative to the direct row of the same instruction set.
float thin_cost(const ConvShape&, uint32_t cb, CpuFamily);

}  // namespace mpq::kernels
