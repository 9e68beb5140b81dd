// Winograd's F(2x2, 3x3) (winograd.h) for vpmaddubsw, which adds in 16 bits. Codes of up to 15
// transform to V within a range of 60 at every position:
//
//   V + 30 (at position (1, 1), where V is a sum, V itself) = 0..60,   U = -72..67
//
// Pairs of products stay within 2 * 60 * 72 = 8640. Sums are taken modulo 2^16 and start at -30 *
// sum of U, so what they are at the end is a sum of terms of at most 30 |U|, whatever codes come.
// How many k-groups may add up before they are widened follows from the weights themselves: as long
// as 30 * sum of |U| <= 32767 in every lane of a panel. A stretch of 4 k-groups always does.
//
//   packed "winograd2_quarter16_s4_v1":
//     [panel]{ header; last step of each stretch, plus 1;
//              [quarter of 16 channels][position] int16 start[stretch][16][2], 64 bytes each;
//              [quarter][k-group][tap] 32 bytes: channels 0..7 in low nibbles, 8..15 in high ones,
//                                      [channel][k 0..3], weight + 8 }
//
// with room for as many stretches as there may be.
#pragma once

#include "kernels/conv/quarters.h"
#include "kernels/conv/winograd.h"

namespace mpq::kernels {

constexpr char kWinogradQuartersLayout[] = "winograd2_quarter16_s4_v1";
constexpr int32_t kQuartersOffset = 30, kQuartersMaxCode = 15;
constexpr uint32_t kStretchStep = 4;  // k-groups: stretches are multiples

struct WinogradQuartersHeader {
  int32_t start[kPanelChannels];  // 30 * sum of U of position (1, 1), a term of all four outputs
  uint32_t stretches, padding[15];
};

constexpr size_t kTapBytes = kQuarterGroup / 2;

// Sizes of a panel, in k-groups and bytes; input channels are taken in vectors of cb.
struct WinogradQuarters {
  size_t groups, steps, ends_at, starts_at, weights_at, panel_bytes;
  size_t position_starts, quarter_starts, quarter_weights;
  WinogradQuarters(const ConvShape& s, uint32_t cb)
      : groups(winograd_groups(s, cb)), steps(groups / kStretchStep) {
    position_starts = steps * kQuarterGroup;
    quarter_starts = kWinograd2.positions() * position_starts;
    quarter_weights = groups * 9 * kTapBytes;
    ends_at = sizeof(WinogradQuartersHeader);
    starts_at = ends_at + (steps * sizeof(uint32_t) + 63) / 64 * 64;
    weights_at = starts_at + 4 * quarter_starts;
    panel_bytes = weights_at + 4 * quarter_weights;
  }
};

bool winograd_quarters_fit(const ConvShape&, uint32_t cb);
size_t winograd_quarters_bytes(const ConvShape&, uint32_t cb);
// Stretches that follow each other to the last step, in every panel.
bool winograd_quarters_are_safe(const ConvShape&, uint32_t cb, const void* packed);
void pack_winograd_quarters(const ConvShape&, uint32_t cb, const int8_t* canonical, void* packed);
float winograd_quarters_cost(const ConvShape&, uint32_t cb, CpuFamily);

}  // namespace mpq::kernels
