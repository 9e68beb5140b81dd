// Exact Strassen products in Winograd's form (S. Winograd, On multiplication of 2 x 2 matrices,
// 1971): 7 products of blocks instead of 8. Pixels, k and channels are halved.
//
//      A: pixels x k              B: k x channels      C = A B
//   0  A11                        B11                  U0  = P0
//   1  S2 = A21 + A22 - A11       T2 = B22 - T1        U1  = U0 + P1
//   2  S1 = A21 + A22             T1 = B12 - B11       U2  = U1 + P2
//   3  A12 - S2                   B22                  C12 = U2 + P3
//   4  A12                        B21                  C11 = U0 + P4
//   5  A11 - A21                  B22 - B12            C22 = U2 + P5
//   6  A22                        B21 - T2             C21 = U1 + P5 + P6
//
// The range of codes and that of weights become 4 times as wide at most: with codes of 6 bits and
// weights of 5 all operands are bytes, as vpdpbusd wants them. Sums of codes are stored less the
// lowest value that they may have; what that takes off C is a constant for each channel and half of
// the pixels, and is kept with the packed weights.
//
//   packed, "strassen64_s4_v1": [panel]{ int32 start[2 halves of pixels][64];
//                                        then k-groups as in panel64_s4 }
//
// A half of the channels is 32 neighbours of a panel, a half of the pixels one of a unit.
#pragma once

#include "kernels/conv/panels.h"

namespace mpq::kernels {

constexpr uint32_t kStrassenProducts = 7;
constexpr int32_t kStrassenMaxCode = 63;  // largest x code: 4 * 63 <= 255
// The lowest values of the seven sums of codes.
constexpr int32_t kStrassenLowest[kStrassenProducts] = {
    0, -kStrassenMaxCode, 0, -2 * kStrassenMaxCode, 0, -kStrassenMaxCode, 0};
constexpr size_t kStrassenHeadBytes = 2 * kPanelChannels * sizeof(int32_t);

// Whole 64-byte blocks of channels, as many in each half.
bool strassen_fits(const ConvShape&, uint32_t cb);
size_t strassen_bytes(const ConvShape&, uint32_t cb, uint32_t bits);
void pack_strassen(const ConvShape&, uint32_t cb, uint32_t bits, const int8_t* canonical,
                   void* packed);
float strassen_cost(const ConvShape&, uint32_t cb, CpuFamily);

}  // namespace mpq::kernels
