// Strided convolution as one of stride 1: a copy of the input in which the pixels that one tap
// reads for neighbouring outputs are neighbours, in one plane for each phase of the stride. Runs of
// pixels then go on over the ends of rows, which matters where rows are short: 7 output pixels fill
// half of a tile. All static: each instruction set compiles its own.
#pragma once

#include "kernels/conv/blocks.h"

namespace mpq::kernels {

constexpr uint32_t kPhaseBlock = 64;  // channels of a block, which a tap reads together

struct Phases {
  uint32_t stride_h, stride_w;
  uint32_t rows, columns;      // of a plane
  uint32_t count_h, count_w;   // of phases that some tap reads
  size_t plane, block, image;  // bytes: of a phase, of its channel block, of an image

  explicit Phases(const ConvShape& s)
      : stride_h(s.stride_h),
        stride_w(s.stride_w),
        rows(s.oh + (s.r - 1) / s.stride_h),
        columns(s.ow + (s.s - 1) / s.stride_w),
        count_h(s.r < s.stride_h ? s.r : s.stride_h),
        count_w(s.s < s.stride_w ? s.s : s.stride_w),
        plane(size_t{rows} * columns * kPhaseBlock),
        block(count_h * count_w * plane),
        image((s.c + kPhaseBlock - 1) / kPhaseBlock * block) {}

  ptrdiff_t offset(uint32_t channel_block, uint32_t r, uint32_t q) const {
    const uint32_t phase = r % stride_h * count_w + q % stride_w;
    return static_cast<ptrdiff_t>(channel_block * block + phase * plane +
                                  (size_t{r / stride_h} * columns + q / stride_w) * kPhaseBlock);
  }
};

// Copies images [begin, end) of a.x; pixels that no output reads are left open.
[[maybe_unused]] static void split_phases(const ConvArgs& a, const Phases& to, uint32_t begin,
                                          uint32_t end, uint8_t* memory) {
  const ConvShape& s = a.shape;
  const uint32_t height = (s.oh - 1) * s.stride_h + s.r,
                 width = (s.ow - 1) * s.stride_w + s.s;  // that outputs read
  for (uint32_t n = begin; n < end; ++n)
    for (uint32_t c = 0; c < s.c; c += kPhaseBlock)
      for (uint32_t r = 0; r < height; ++r) {
        if (r % s.stride_h >= to.count_h) continue;
        const uint8_t* from = a.x.data + n * a.x.image + c / kPhaseBlock * a.x.plane +
                              static_cast<ptrdiff_t>(r) * a.x.row;
        for (uint32_t q = 0; q < width; ++q)
          if (q % s.stride_w < to.count_w)
            __builtin_memcpy(memory + n * to.image + to.offset(c / kPhaseBlock, r, q),
                             from + q * kPhaseBlock, kPhaseBlock);
      }
}

// fill_offsets() for the copy.
[[maybe_unused]] static void fill_phase_offsets(const ConvShape& s, const Phases& phases,
                                                ptrdiff_t* offsets) {
  for (uint32_t c = 0; c < s.c; c += kPhaseBlock)
    for (uint32_t r = 0; r < s.r; ++r)
      for (uint32_t q = 0; q < s.s; ++q)
        for (uint32_t i = 0; i < kPhaseBlock; i += 4)
          *offsets++ = phases.offset(c / kPhaseBlock, r, q) + i;
}

// The same convolution on the copy.
[[maybe_unused]] static ConvArgs on_phases(const ConvArgs& a, const Phases& phases,
                                           uint8_t* memory) {
  ConvArgs copy = a;
  copy.shape.stride_h = copy.shape.stride_w = 1;
  copy.x.data = memory;
  copy.x.image = static_cast<ptrdiff_t>(phases.image);
  copy.x.plane = static_cast<ptrdiff_t>(phases.block);
  copy.x.row = ptrdiff_t{phases.columns} * kPhaseBlock;
  return copy;
}

}  // namespace mpq::kernels
