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
// so 4-bit weights go with codes to 240, 2-bit weights with codes to 252. With X0 = x0 + h and
// X1 = x1 + h - 128 a product is u s = (X0 + w1) (X1 + w0), of which X0 X1 and
// h w0 + (h - 128) w1 + w0 w1 are taken off.
//
// Additions of bytes run on ports that multiplications do not use where a core has four vector
// ports and multiplies on two (Zen 4, Zen 5). Pairs alone keep the four busy with additions, 6
// port slots for two products: 1.33 times the peak of vpdpbusd. A direct product beside each pair
// uses 8 for three, and fills the multipliers, too: 1.5 times. Where ports are shared this loses.
//
//   k-groups in walking order (panels.h): 3j, 3j + 1 are a pair, 3j + 2 is multiplied directly;
//   of what is left at the end two are a pair, one is direct
//   packed, "pairs64_s4_v2": [panel]{ int32 start[64] = -sum of what is taken off for a channel;
//                                     then k-groups as in panel64_s4 }
#pragma once

#include "kernels/conv/panels.h"

namespace mpq::kernels {

constexpr size_t kPairsHeadBytes = kPanelChannels * sizeof(int32_t);
constexpr size_t kPairStep = 3;  // k-groups: a pair and a direct one

[[maybe_unused]] static constexpr int32_t pairs_half(uint32_t bits) { return 1 << (bits - 1); }

// Pixels of whole 64-byte blocks: whatever other bytes hold could leave the range.
bool pairs_fit(const ConvShape&, uint32_t cb);
size_t pairs_bytes(const ConvShape&, uint32_t cb, uint32_t bits);
void pack_pairs(const ConvShape&, uint32_t cb, uint32_t bits, const int8_t* canonical,
                void* packed);
// Relative to the direct row of the same instruction set.
float pairs_cost(const ConvShape&, CpuFamily);

}  // namespace mpq::kernels
