// How the vector rows cut their work: units of a few neighbouring pixels of an output row, times
// panels of 64 channels. All static: each instruction set compiles its own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv/panels.h"

namespace mpq::kernels {

constexpr uint32_t kMaxPixels = 14;    // of a unit, where a row says nothing else
constexpr uint32_t kGroupBytes = 256;  // one k-group (4 k) of a panel

alignas(64) static constexpr int32_t kNoBias[kPanelChannels] = {};

[[maybe_unused]] static uint32_t blocks_of_row(const ConvShape& s,
                                               uint32_t max_pixels = kMaxPixels) {
  return (s.ow + max_pixels - 1) / max_pixels;
}

struct Unit {
  uint32_t image, y, x, pixels;
};

[[maybe_unused]] static Unit unit_at(const ConvShape& s, uint32_t unit,
                                     uint32_t max_pixels = kMaxPixels) {
  const uint32_t per_row = blocks_of_row(s, max_pixels), row = unit / per_row, i = unit % per_row;
  const uint32_t width = s.ow / per_row, extra = s.ow % per_row;  // balanced: widths differ by one
  return {row / s.oh, row % s.oh, i * width + (i < extra ? i : extra), width + (i < extra ? 1 : 0)};
}

template <uint32_t kUnitPixels>
[[maybe_unused]] static void row_units(const ConvShape& s, uint32_t* unit_count, uint32_t* panels) {
  *unit_count = s.n * s.oh * blocks_of_row(s, kUnitPixels);
  *panels = panel_count(s);
}

// Where a block of 64 channels of one image row segment lies.
struct EpilogueBlock {
  uint32_t image, y, x, channel;  // first pixel and channel (a multiple of 64)
  uint32_t pixels, channels;      // channels: 1..64 real ones
  size_t dense_at;                // element of the dense output
  size_t dense_pixel;             // elements from a pixel to the next there
};

[[maybe_unused]] static uint8_t* planes_at(const Planes& p, const EpilogueBlock& at) {
  const int cb_bits = __builtin_ctz(p.cb);  // a division costs as much as a pixel's epilogue
  return p.data + at.image * p.image + static_cast<ptrdiff_t>(at.channel >> cb_bits) * p.plane +
         at.y * p.row + static_cast<ptrdiff_t>(at.x) * p.cb;
}

// 64 channels of a pixel from or to blocks of fewer; only blocks that hold real channels exist.
[[maybe_unused]] static const uint8_t* gather_codes(const uint8_t* at, const Planes& p,
                                                    uint32_t channels, uint8_t gathered[64]) {
  if (p.cb == 64) return at;
  for (uint32_t c = 0; c < channels; c += p.cb, at += p.plane)
    for (uint32_t i = 0; i < p.cb; i += 4) __builtin_memcpy(gathered + c + i, at + i, 4);
  return gathered;
}

[[maybe_unused]] static void scatter_codes(uint8_t* at, const Planes& p, uint32_t channels,
                                           const uint8_t codes[64]) {
  for (uint32_t c = 0; c < channels; c += p.cb, at += p.plane)
    for (uint32_t i = 0; i < p.cb; i += 4) __builtin_memcpy(at + i, codes + c + i, 4);
}

// One line a pixel, where a pixel's 64 channels are one.
template <int kWrite>
[[maybe_unused]] static void prefetch_planes(const Planes& p, const EpilogueBlock& at) {
  if (p.data == nullptr || p.cb != 64) return;
  const uint8_t* line = planes_at(p, at);
  for (uint32_t i = 0; i < at.pixels; ++i, line += 64) __builtin_prefetch(line, kWrite);
}

// The multiplies of a block take long enough to hide the way of its outputs and residual from L3.
[[maybe_unused]] static void prefetch_block(const Epilogue& e, const Planes& y,
                                            const EpilogueBlock& at) {
  if (e.out == Elem::u8) prefetch_planes<1>(y, at);
  prefetch_planes<1>(e.second, at);
  prefetch_planes<0>(e.residual, at);
}

[[maybe_unused]] static EpilogueBlock block_at(const ConvShape& s, const Unit& u, uint32_t panel) {
  const uint32_t channel = panel * kPanelChannels;
  return {.image = u.image,
          .y = u.y,
          .x = u.x,
          .channel = channel,
          .pixels = u.pixels,
          .channels = s.o - channel < kPanelChannels ? s.o - channel : kPanelChannels,
          .dense_at = ((size_t{u.image} * s.oh + u.y) * s.ow + u.x) * s.o + channel,
          .dense_pixel = s.o};
}

[[maybe_unused]] static const uint8_t* input_of(const ConvArgs& a, const Unit& u) {
  return a.x.data + u.image * a.x.image + static_cast<ptrdiff_t>(u.y) * a.shape.stride_h * a.x.row +
         static_cast<ptrdiff_t>(u.x) * a.shape.stride_w * a.x.cb;
}

[[maybe_unused]] static const int32_t* start_of(const ConvArgs& a, uint32_t panel) {
  return a.epilogue.acc_bias != nullptr ? a.epilogue.acc_bias + panel * kPanelChannels : kNoBias;
}

// Where the 4 bytes of each k-group lie, in the order of the packed weights.
[[maybe_unused]] static void fill_offsets(const ConvArgs& a, ptrdiff_t* offsets) {
  const ConvShape& s = a.shape;
  const uint32_t cb = a.x.cb;
  for (uint32_t c = 0; c < s.c; c += cb)
    for (uint32_t r = 0; r < s.r; ++r)
      for (uint32_t q = 0; q < s.s; ++q)
        for (uint32_t i = 0; i < cb; i += 4)
          *offsets++ = c / cb * a.x.plane + static_cast<ptrdiff_t>(r) * s.dilation_h * a.x.row +
                       static_cast<ptrdiff_t>(q) * s.dilation_w * cb + i;
}

[[maybe_unused]] static size_t offset_bytes(const ConvShape& s, uint32_t cb) {
  return (panel_groups(s, cb) * sizeof(ptrdiff_t) + 63) / 64 * 64;
}

}  // namespace mpq::kernels
