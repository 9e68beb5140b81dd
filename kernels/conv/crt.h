// Products packed by the Chinese remainder theorem: several outputs from fewer multiplications of
// bytes, exactly, where codes or weights have 2 bits. What is packed shares one operand:
//
//   3 -> 2   P1 = 84 a1 + a2          with codes of 0..3 each P is a byte, and the sums over k of
//            P2 = 83 a3 + a2          its products with any w are, for x_i = sum of a_i w,
//                                     T1 = 84 x1 + x2,  T2 = 83 x3 + x2:
//            x2 is T1 modulo 84 and T2 modulo 83, hence known modulo 84 * 83 = 6972.
//   4 -> 3   P_v = m_v a_v + a4       m = 84, 83, 79: x4 is known modulo 84 * 83 * 79.
//
// Pixels are packed when a layer runs, output channels (2-bit weights, -2..1, moved into s8 by +42)
// where narrow weights are widened. Both at once, 3 -> 2 pixels and 4 -> 3 channels, make 12 sums
// from 6 accumulators:
//
//   T_uv = p_u (m_v x_uv + x_u4) + (m_v x_2v + x_24)      u = 1, 3 (packed rows), v = 1..3
//
// modulo m_v this is y_u = p_u x_u4 + x_24, known from the three v; y_1 and y_3 are a pair as
// above, and so are the (T_uv - y_u) / m_v = p_u x_uv + x_2v of every v.
//
// Sums are counted from the middle of their range, so that they are symmetric, and decoded in
// binary32, where everything is an integer below 2^24 in magnitude or rounded to one. k is cut into
// chunks for which that and the moduli suffice; decoded chunks are added up in int32.
//
// Source of the idea: residue number systems; the packing is ours.
#pragma once

#include "kernels/conv/panels.h"

namespace mpq::kernels {

constexpr int32_t kCrtModuli[3] = {84, 83, 79};
constexpr int32_t kCrtWeightOffset = 42;  // 84 * -2 - 2 + 42 = -128, 84 + 1 + 42 = 127

// Largest magnitudes of sums, counted from the middle of their range, that are decoded: of x2
// modulo 84 * 83 in a pair, whose others may be twice that; below 2^24 when a triple or a pair of
// triples multiplies them.
constexpr int32_t kCrtPairMax = 3456, kCrtTripleMax = (1 << 24) / 85,
                  kCrtBothMax = (1 << 24) / (85 * 85);

// k of a chunk come in blocks of 64: the codes of a tap and a channel block, which lie together.
constexpr uint32_t kCrtBlock = 64;
bool crt_fits(const ConvShape&, uint32_t cb);

// k of chunk i of `count` in blocks; the first of chunk `count` is the end.
struct CrtChunks {
  uint32_t blocks, count;
  CrtChunks(const ConvShape& s, uint32_t max_blocks)
      : blocks(s.c / kCrtBlock * s.r * s.s), count((blocks + max_blocks - 1) / max_blocks) {}
  uint32_t first(uint32_t chunk) const {
    return static_cast<uint32_t>(uint64_t{blocks} * chunk / count);
  }
};

// `pixels` in `rows` of codes, 4 vectors of channels in `vectors` of weights.
struct CrtPacking {
  uint32_t max_blocks, pixels, rows, vectors;
};
float crt_cost(const ConvShape&, const CrtPacking&);

}  // namespace mpq::kernels
