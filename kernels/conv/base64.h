// Two sums in one: codes of 2 bits of two pixels share a byte, so that vpmaddubsw, which adds in 16
// bits, multiplies both.
//
//   x = a + 64 b,  a, b <= 3        sum of x w = A + 64 B,  A = sum of a w, B = sum of b w
//
// With fixed weights A takes at most 3 * sum of |w| + 1 values, the least of them 3 * sum of the
// negative w. While that is 64 at most, A + 64 B less the least A and B gives both back: the low
// six bits and the others. A stretch of k-groups is as long as the weights of a panel allow: 5
// k-groups at least (10 weights of -2 a lane), 8 at most. What is taken off each stretch is added
// again to the sums of all.
//
//   packed "base64_16_s8_v1":
//     [panel]{ header; [quarter of 16 channels][stretch]{ int16 start[16][2]; its k-groups } }
//
//   k-groups as in quarters.h; the last stretch may be shorter
#pragma once

#include "kernels/conv/quarters.h"

namespace mpq::kernels {

constexpr char kBase64Layout[] = "base64_16_s8_v1";
constexpr uint32_t kMinStretch = 5, kMaxStretch = 8;  // k-groups
constexpr int32_t kBase = 64, kBaseMaxCode = 3;

struct Base64Header {
  int32_t start[kPanelChannels];  // what the stretches take off
  uint32_t stretch, padding[15];
};

// Bytes of a panel's quarter for stretches of some length.
[[maybe_unused]] static constexpr size_t base64_quarter(size_t groups, uint32_t stretch) {
  return ((groups + stretch - 1) / stretch + groups) * kQuarterGroup;
}
// Room for the shortest.
[[maybe_unused]] static constexpr size_t base64_panel(size_t groups) {
  return sizeof(Base64Header) + 4 * base64_quarter(groups, kMinStretch);
}

bool base64_fits(const ConvShape&, uint32_t cb);
size_t base64_bytes(const ConvShape&, uint32_t cb);
// Stretches of a length that there is, in every panel.
bool base64_is_safe(const ConvShape&, uint32_t cb, const void* packed);
void pack_base64(const ConvShape&, uint32_t cb, const int8_t* canonical, void* packed);

}  // namespace mpq::kernels
