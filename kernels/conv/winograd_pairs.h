// Winograd's F(2x2, 3x3) (winograd.h) whose sums over channels take some products by pairs
// (pairs.h): both in their exact form, one inside the other.
//
// Pairs need the sum of a code and a weight to fit a byte. Of codes 0..q and 4-bit weights, what
// meets at one position is at most
//
//   V  0 .. 4 q   with U -72 .. 63,   or   V -2 q .. 2 q   with U -69 .. 67
//
// so with offsets for the codes of each side, for q <= 20,
//
//   u = (V0 + 110) + U1         in 0..255, a u8
//   s = (V1 + 110 - 128) + U0   in -128..127, an s8
//
// and weights go as they are. Pairs use four ports of which vpdpbusd has two, direct products only
// those two; the least time has both. Of the 16 k-groups of 64 channels, groups i and i + 5 are a
// pair for i < 5, the last six are direct: 11 multiplications for 16, in 11 / 16 of the time.
//
//   u s = V0 U0 + V1 U1 + (V0 + 110) (V1 - 18) + 110 U0 - 18 U1 + U0 U1
//
// The third term belongs to a tile and serves all output channels, the rest to a channel and serves
// all tiles. As the output transform is linear, both are summed up and transformed on their own,
// and taken off the four outputs of a tile instead of the 16 sums.
//
//   packed, "winograd2_pairs64_s4_v1":
//     [panel]{ int32 start[4 outputs of a tile][64] = what a channel's own terms add, negated;
//              then [k-group][tap 0..8][a k-group of panel64_s4] as in winograd.h }
#pragma once

#include "kernels/conv/winograd.h"

namespace mpq::kernels {

inline constexpr WinogradForm kWinogradPairs = {
    .m = 2, .bits = 4, .max_activation = 20, .offset = 110, .max_channels = 1U << 17};
inline constexpr int32_t kSecondOffset = kWinogradPairs.offset - 128;  // of V1
inline constexpr uint32_t kPairsOfBlock = 5;
inline constexpr size_t kWinogradPairsHead = 4 * kPanelChannels * sizeof(int32_t);

[[maybe_unused]] static constexpr size_t winograd_pairs_panel_bytes(const ConvShape& s) {
  return kWinogradPairsHead + size_t{s.c} / 4 * 9 * kWinogradPairs.tap_bytes();
}

// Whole blocks of 64 channels: whatever other bytes hold could leave the range.
bool winograd_pairs_fit(const ConvShape&, uint32_t cb);
size_t winograd_pairs_bytes(const ConvShape&, uint32_t cb);
void pack_winograd_pairs(const ConvShape&, uint32_t cb, const int8_t* canonical, void* packed);
float winograd_pairs_cost(const ConvShape&, uint32_t cb, CpuFamily);

}  // namespace mpq::kernels
