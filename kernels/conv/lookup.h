// Products of 2-bit codes by 2-bit weights looked up, three at a time: for codes x0, x1, x2 of 0..3
// the sums
//
//   t[w0, w1, w2] = x0 w0 + x1 w1 + x2 w2        w in -2..1
//
// of all 64 triples of weights are 64 bytes, one register, and vpermb reads one of them for each of
// 64 output channels. All 64 triples of codes need 4 KB of such tables, which stay in L1. A lookup
// and an addition of bytes are 192 multiplications; vpdpbusd makes 64, and where it has no more
// ports than vpermb (Zen 4) that is three times its peak.
//
// Sums are bytes that wrap. With fixed weights a sum takes at most 3 * sum of |w| + 1 values, the
// least of them 3 * sum of the negative w. While those are 256 at most, a sum that starts at minus
// the least ends as an unsigned byte that is exact. k is cut into stretches for which that holds in
// every channel of two panels, in pieces of 4 triples, of which 3 always fit. What stretches take
// off is added again to the sums of all, which are words meanwhile.
//
//   packed "lookup64_s2_v1", two panels of 64 channels side by side while there are two:
//     [two panels]{ header; uint8 pieces[stretch], padded to lines;
//                   [stretch]{ start[panel][64]; [triple][panel][64] } }
//
//   k in walking order (panels.h), three by three; weights beyond it are 0
//
//   triples that are no whole piece belong to the last stretch
//
//   even bytes of a line are channels 0..31, odd ones 32..63; of both, vectors of 16 channels lie
//   in turns of 4, as packing 32-bit sums to words would leave them: unpacking gives them back
//
//   a triple is w0 | w1 << 2 | w2 << 4, of two bits each
//
// Source of the idea: tables for several low-bit products at once, as in T-MAC (arXiv 2407.00088);
// there they are made from activations when a layer runs, here they are constants.
#pragma once

#include "kernels/conv/panels.h"

namespace mpq::kernels {

constexpr char kLookupLayout[] = "lookup64_s2_v1";
constexpr uint32_t kLookupBlock = 64;  // codes of a tap and a channel block
constexpr uint32_t kPieceTriples = 4, kPieceCodes = 3 * kPieceTriples;
constexpr uint32_t kLookupPanels = 2;  // side by side
constexpr int32_t kLookupMaxCode = 3;
constexpr size_t kLookupLine = kPanelChannels;  // bytes

struct LookupHeader {
  int32_t start[kLookupPanels * kPanelChannels];  // what the stretches take off
  uint32_t stretches, padding[15];
};

// How k is cut.
struct LookupCut {
  size_t codes, triples, pieces;
  uint32_t rest;         // triples that are no whole piece
  size_t max_stretches;  // of three pieces but for the last
  explicit constexpr LookupCut(const ConvShape& s)
      : codes(size_t{s.c} * s.r * s.s),
        triples((codes + 2) / 3),
        pieces(triples / kPieceTriples),
        rest(static_cast<uint32_t>(triples % kPieceTriples)),
        max_stretches(pieces / 3 + 1) {}
  // Where the first stretch of a pair of panels begins.
  constexpr size_t head() const { return sizeof(LookupHeader) + (max_stretches + 63) / 64 * 64; }
  constexpr size_t panels_bytes(uint32_t width) const {
    return head() + (max_stretches + triples) * width * kLookupLine;
  }
};
// Panels side by side from an even one on.
[[maybe_unused]] static constexpr uint32_t lookup_width(const ConvShape& s, uint32_t panel) {
  return panel_count(s) - panel < kLookupPanels ? 1 : kLookupPanels;
}

bool lookup_fits(const ConvShape&, uint32_t cb);
size_t lookup_bytes(const ConvShape&, uint32_t cb);
// Stretches that are all of k together, in every pair of panels.
bool lookup_is_safe(const ConvShape&, uint32_t cb, const void* packed);
void pack_lookup(const ConvShape&, uint32_t cb, const int8_t* canonical, void* packed);
// Relative to the direct row of the same instruction set.
float lookup_cost(const ConvShape&, uint32_t cb, CpuFamily);

}  // namespace mpq::kernels
