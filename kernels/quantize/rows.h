// The rows of the family, defined one ISA a file and joined in quantize.cc, and the geometry they
// share.
#pragma once

#include "kernels/quantize/quantize.h"

namespace mpq::kernels {

extern const QuantizeKernel quantize_f32_ref, quantize_f32_avx2, quantize_f32_avx512vnni;
extern const ImageQuantizeKernel image_quantize_ref, image_quantize_c3_avx512vnni;

// Static, so that the copy compiled for an instruction set stays in its file.
struct CodesRow {
  uint32_t n, block, y;
};
static inline CodesRow codes_row(const CodesShape& s, uint32_t cb, uint32_t unit) {
  const uint32_t blocks = (s.c + cb - 1) / cb;
  return {unit / s.h / blocks, unit / s.h % blocks, unit % s.h};
}
static inline uint32_t codes_channels(const CodesShape& s, uint32_t cb, uint32_t block) {
  const uint32_t left = s.c - block * cb;
  return left < cb ? left : cb;
}
static inline uint8_t* codes_at(const Planes& p, CodesRow at) {
  return p.data + static_cast<ptrdiff_t>(at.n) * p.image +
         static_cast<ptrdiff_t>(at.block) * p.plane + static_cast<ptrdiff_t>(at.y) * p.row;
}
// Element (n, first channel of the block, y, 0).
static inline ptrdiff_t dense_at(const DenseStrides& d, CodesRow at, uint32_t cb) {
  return static_cast<ptrdiff_t>(at.n) * d.image +
         static_cast<ptrdiff_t>(at.block) * cb * d.channel + static_cast<ptrdiff_t>(at.y) * d.row;
}

}  // namespace mpq::kernels
