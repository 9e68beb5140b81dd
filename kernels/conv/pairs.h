// Products by pairs (S. Winograd, A New Algorithm for Inner Product, 1968): one multiplication and
// two additions of bytes for two multiplications,
//
//   x0 w0 + x1 w1 = (x0 + w1) (x1 + w0) - x0 x1 - w0 w1
//
// where x0 x1 belongs to a pixel and serves all output channels, w0 w1 to a channel and serves all
// pixels. The sums must fit the bytes of vpdpbusd. With h = 2^(bits - 1), codes x of at most
// 255 - (2 h - 1) and weights in -h..h-1:
//
//   u = x0 + (w1 + h)          in 0..255, a u8
//   s = x1 + (w0 + h - 128)    in -128..127, an s8
//
// so 4-bit weights go with codes to 240, 2-bit weights with codes to 252. Additions of bytes run on
// ports that multiplications do not use where a core has four vector ports and multiplies on two
// (Zen 4, Zen 5): 1.3 times the peak of vpdpbusd. Where ports are shared this loses.
//
//   packed, "pairs64_s4_v1": [panel]{ int32 start[64] = -sum of (w1 + h)(w0 + h - 128); then
//                                     k-groups as in panel64_s4; groups 2j, 2j + 1 are a pair }
#pragma once

#include "kernels/conv/panels.h"

namespace mpq::kernels {

constexpr size_t kPairsHeadBytes = kPanelChannels * sizeof(int32_t);

[[maybe_unused]] static constexpr int32_t pairs_half(uint32_t bits) { return 1 << (bits - 1); }

// Pixels of whole 64-byte blocks: whatever other bytes hold could leave the range.
bool pairs_fit(const ConvShape&, uint32_t cb);
size_t pairs_bytes(const ConvShape&, uint32_t cb, uint32_t bits);
void pack_pairs(const ConvShape&, uint32_t cb, uint32_t bits, const int8_t* canonical,
                void* packed);
// Relative to the direct row of the same instruction set.
float pairs_cost(const ConvShape&, CpuFamily);

}  // namespace mpq::kernels
