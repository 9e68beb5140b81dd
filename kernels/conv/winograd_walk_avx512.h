// What the AVX-512 rows of Winograd's algorithm share: the panel at hand, and the transforms of
// codes and weights. For AVX-512 files only.
#pragma once

#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/tiling.h"
#include "kernels/conv/widen_avx512.h"
#include "kernels/conv/winograd_avx512.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kTaps = 9;
constexpr size_t kResidentBytes = 512 * 1024;  // transformed weights kept in L2
// Transformed inputs and halves of a chunk: few where all weights are kept, else as many as L2
// holds.
constexpr size_t kSmallChunkBytes = 128 * 1024, kChunkBytes = 768 * 1024;
constexpr size_t kSkew = 5 * 64;  // keeps the positions out of each other's cache sets

// The panel at hand.
struct PanelAtHand {
  uint32_t number = 0;
  const uint8_t* packed = nullptr;
  const int8_t *next = nullptr, *next_end = nullptr;  // packed weights to prefetch
  PanelForm form = {};
  const int32_t* start = nullptr;
  alignas(64) int32_t lowered[kPanelChannels];

  void enter(const ConvArgs& a, const ConvPart& part, uint32_t panel, size_t packed_bytes,
             size_t groups, const WinogradForm& winograd) {
    number = panel;
    packed = static_cast<const uint8_t*>(a.weights) + panel * packed_bytes;
    next = reinterpret_cast<const int8_t*>(packed + packed_bytes);
    next_end = next + (panel + 1 == part.panel_end ? 0 : packed_bytes);
    const int64_t max_sum = static_cast<int64_t>(groups) * 4 * kTaps * winograd.max_activation
                            << (winograd.bits - 1);
    form = panel_form(a.epilogue, panel * kPanelChannels, max_sum);
    start = form_start(form, start_of(a, panel), lowered);
  }
};

// Bytes from a tile's V to the next one's, from a position's to the next one's.
struct InputSteps {
  size_t tile, position;
};

// The codes of neighbouring tiles to V plus the offset of each channel of a block. Columns that two
// tiles share are transformed once. Rows and columns that only serve outputs outside the image do
// not exist: any existing one may stand in, since those outputs are dropped.
template <typename W>
void transform_input(const ConvArgs& a, const Run& run, __m512i offset, const InputSteps& steps,
                     uint8_t* out) {
  constexpr uint32_t kM = W::kM, kSide = W::kSide;
  const uint32_t cb = a.x.cb;
  const __mmask64 mask = ~uint64_t{0} >> (64 - cb);
  const __m512i zero = _mm512_setzero_si512();
  const uint32_t last_row = a.shape.oh + 1, last_column = a.shape.ow + 1;
  ptrdiff_t rows[kSide];
  for (uint32_t i = 0; i < kSide; ++i)
    rows[i] = static_cast<ptrdiff_t>(min(kM * run.y + i, last_row)) * a.x.row;
  const uint8_t* from = a.x.data + run.image * a.x.image;
  for (uint32_t c = 0; c < a.shape.c; c += cb, from += a.x.plane, out += cb) {
    __m512i columns[kSide][kSide];  // [column][row]
    const auto load_column = [&](uint32_t x, __m512i column[kSide]) {
      const uint8_t* at = from + static_cast<ptrdiff_t>(min(x, last_column)) * cb;
      __m512i d[kSide];
#pragma GCC unroll 5
      for (uint32_t i = 0; i < kSide; ++i) d[i] = _mm512_maskz_loadu_epi8(mask, at + rows[i]);
      W::input(d, zero, column);
    };
#pragma GCC unroll 2
    for (uint32_t j = 0; j < 2; ++j) load_column(kM * run.x + j, columns[kM + j]);
    uint8_t* to = out;
    for (uint32_t t = 0; t < run.tiles; ++t, to += steps.tile) {
#pragma GCC unroll 5
      for (uint32_t i = 0; i < kSide; ++i) {
        columns[0][i] = columns[kM][i];
        columns[1][i] = columns[kM + 1][i];
      }
#pragma GCC unroll 3
      for (uint32_t j = 2; j < kSide; ++j) load_column(kM * (run.x + t) + j, columns[j]);
      uint8_t* position = to;
#pragma GCC unroll 5
      for (uint32_t i = 0; i < kSide; ++i) {
        __m512i d[kSide], v[kSide];
#pragma GCC unroll 5
        for (uint32_t j = 0; j < kSide; ++j) d[j] = columns[j][i];
        W::input(d, offset, v);
#pragma GCC unroll 5
        for (uint32_t j = 0; j < kSide; ++j, position += steps.position)
          _mm512_mask_storeu_epi8(position, mask, v[j]);
      }
    }
  }
}

// The weights of a row of positions, [column][k-group][64][4].
template <typename W, uint32_t kRow = 0>
void transform_weights(uint32_t row, const uint8_t* packed, size_t groups, size_t position_weights,
                       int8_t* out) {
  constexpr uint32_t kSide = W::kSide, kBits = W::kForm.bits, kFields = 8 / kBits;
  constexpr size_t kTap = W::kForm.tap_bytes();
  if constexpr (kRow + 1 < kSide)
    if (row != kRow)
      return transform_weights<W, kRow + 1>(row, packed, groups, position_weights, out);
  for (size_t g = 0; g < groups; ++g, packed += kTaps * kTap, out += kGroupBytes)
#pragma GCC unroll 4
    for (uint32_t vector = 0; vector < 4; ++vector) {
      __m512i of_row[3];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        __m512i w[3], u[kSide];
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i)
          w[i] = widen_field<kBits>(
              _mm512_loadu_si512(packed + (i * 3 + j) * kTap + vector / kFields * 64),
              vector % kFields);
        W::weights(w, u);
        of_row[j] = u[kRow];
      }
      __m512i u[kSide];
      W::weights(of_row, u);
#pragma GCC unroll 5
      for (uint32_t j = 0; j < kSide; ++j)
        _mm512_store_si512(out + j * position_weights + vector * 64, u[j]);
    }
}

}  // namespace
}  // namespace mpq::kernels
