// Packed weights of the AVX2 rows, "quarter16_s8_v1": panels of 64 output channels in quarters of
// 16, so that a tile of two vectors of 8 channels reads one contiguous stream: of the four lines of
// panel64_s8_v1's k-groups it would use one, and so a quarter of L1's sets.
//
//   [panel][quarter][k-group][channel 0..15][k 0..3]     k as in panels.h
#pragma once

#include "kernels/conv/panels.h"

namespace mpq::kernels {

constexpr uint32_t kQuarterChannels = 16;
constexpr size_t kQuarterGroup = 4 * kQuarterChannels;  // bytes of a k-group

size_t quarters_bytes(const ConvShape&, uint32_t cb);
void pack_quarters(const ConvShape&, uint32_t cb, const int8_t* canonical, void* packed);

}  // namespace mpq::kernels
