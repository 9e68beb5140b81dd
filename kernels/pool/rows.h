// The rows of the family, defined one ISA a file and joined in pool.cc, and the geometry they
// share.
#pragma once

#include "kernels/pool/pool.h"

namespace mpq::kernels {

extern const PoolKernel max_pool_u8_ref, avg_pool_u8_ref;
extern const PoolKernel max_pool_u8_avx2, avg_pool_u8_avx2;
extern const PoolKernel max_pool_u8_avx512vnni, avg_pool_u8_avx512vnni;

// Static, so that the copy compiled for an instruction set stays in its file.
struct PoolUnit {
  uint32_t n, block, y;
};
static inline PoolUnit pool_unit(const PoolShape& s, uint32_t cb, uint32_t unit) {
  const uint32_t blocks = (s.c + cb - 1) / cb;
  return {unit / s.oh / blocks, unit / s.oh % blocks, unit % s.oh};
}

struct PoolSpan {
  uint32_t begin, end;  // empty when end <= begin
};
static inline PoolSpan pool_span(uint32_t at, uint32_t stride, uint32_t pad, uint32_t kernel,
                                 uint32_t size) {
  const int64_t first = int64_t{at} * stride - pad, last = first + kernel;
  return {static_cast<uint32_t>(first > 0 ? first : 0),
          static_cast<uint32_t>(last < 0      ? 0
                                : last < size ? last
                                              : size)};
}
static inline PoolSpan pool_rows(const PoolShape& s, uint32_t y) {
  return pool_span(y, s.stride_h, s.pad_top, s.kernel_h, s.h);
}
static inline PoolSpan pool_columns(const PoolShape& s, uint32_t x) {
  return pool_span(x, s.stride_w, s.pad_left, s.kernel_w, s.w);
}
static inline int32_t pool_pixels(PoolSpan rows, PoolSpan columns) {
  if (rows.end <= rows.begin || columns.end <= columns.begin) return 0;
  return static_cast<int32_t>((rows.end - rows.begin) * (columns.end - columns.begin));
}

// Byte 0 of pixel (y, x) of a block.
static inline uint8_t* pool_pixel(const Planes& p, uint32_t n, uint32_t block, uint32_t y,
                                  uint32_t x) {
  return p.data + static_cast<ptrdiff_t>(n) * p.image + static_cast<ptrdiff_t>(block) * p.plane +
         static_cast<ptrdiff_t>(y) * p.row + static_cast<ptrdiff_t>(x) * p.cb;
}

}  // namespace mpq::kernels
