// Pooling over codes. The window of output (y, x) is rows y * stride_h - pad_top + [0, kernel_h)
// and columns x * stride_w - pad_left + [0, kernel_w), clipped to the image: halo pixels are not
// read.
//
//   max:      Y[n][y][x][c] = max over the window of X; 0, the lowest code, if the window is empty
//   average:  acc = sum over the window of (X - zero_point), exact in int32
//             v = fma(float(acc), multiplier, bias)
//             Y = clamp(round_half_even(v), lo, hi), or v itself
//
// A global pool has kernel_h = h and kernel_w = w. Kernels are single-threaded and re-entrant; they
// may write the channels above C of the last block of Y (unspecified codes) and nothing else
// outside Y.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu.h"
#include "kernels/tensor.h"

namespace mpq::kernels {

enum class PoolKind : uint8_t { kMax, kAverage };

struct PoolShape {
  uint32_t n = 1, c = 0, h = 1, w = 1, oh = 1, ow = 1;  // images, channels, input and output pixels
  uint32_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, pad_top = 0, pad_left = 0;
};

struct PoolArgs {
  PoolShape shape;
  Planes x;  // data = pixel (0, 0), not moved by the padding
  Planes y;  // codes, of x.cb; unused for f32 output
  // Average only from here.
  Elem out = Elem::u8;     // u8 or f32
  float* dense = nullptr;  // f32 output: [n][c][oh][ow]
  int32_t zero_point = 0;
  float multiplier = 0.0F, bias = 0.0F;
  int32_t lo = 0, hi = 255;
};

// One unit is one output row of one channel block of one image, numbered in that order of nesting.
constexpr uint32_t pool_units(const PoolShape& s, uint32_t cb) {
  return s.n * ((s.c + cb - 1) / cb) * s.oh;
}

struct PoolKernel {
  const char* name;  // "max_pool_u8_avx2"
  IsaMask isa;
  PoolKind kind;
  bool (*fits)(const PoolShape&, uint32_t cb);
  void (*run)(const PoolArgs&, const WorkRange&);
};

std::span<const PoolKernel> pool_kernels();  // best first, references last
// Pure: the first row that fits. Never fails.
const PoolKernel& select_pool(PoolKind, const PoolShape&, uint32_t cb, IsaMask);

}  // namespace mpq::kernels
