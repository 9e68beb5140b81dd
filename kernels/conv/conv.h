// Dense linear operators: 2-D convolution, and the matrix product as a convolution over one row of
// M "pixels" (H = 1, W = M, R = S = 1).
//
//   acc[n][y][x][o] = acc_bias[o] + sum over c, r, s of
//                     X[n][y * stride_h + r * dilation_h][x * stride_w + s * dilation_w][c] *
//                     W[o][c][r][s]
//   Y = requant(acc, o, residual)
//
// X unsigned codes, W signed codes, sums exact in int32 (the planner has proved that they fit). The
// epilogue belongs to the kernel: sums never go to memory. Single-threaded, re-entrant, no
// allocation; bytes outside the stated extents are never touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu.h"
#include "kernels/requant/requant.h"
#include "kernels/tensor.h"

namespace mpq::kernels {

struct ConvShape {
  uint32_t n = 1, c = 0, oh = 1, ow = 1,
           o = 0;         // images, input channels, output rows/columns/channels
  uint32_t r = 1, s = 1;  // kernel rows and columns
  uint32_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1, groups = 1;
};

struct ConvArgs {
  ConvShape shape;
  Planes x;  // data = the pixel under tap (0, 0) of output (0, 0), i.e. moved by -pad already
  const void* weights = nullptr;  // in the kernel's packed layout
  Planes y;                       // codes; unused for f32/s32 output
  void* dense = nullptr;          // f32/s32 output: [n][oh][ow][o] row-major, no padding
  Epilogue epilogue;
};

// A rectangle of work: units of output pixels times panels of output channels. Any partition of
// [0, units) x [0, panels) into rectangles gives the same bytes.
struct ConvPart {
  uint32_t unit_begin = 0, unit_end = 0, panel_begin = 0, panel_end = 0;
};

struct ConvKernel {
  const char* name;        // "conv_u8s4_14x32_avx512vnni"
  IsaMask isa;             // all bits needed
  Elem weights;            // s8, s4 or s2; activations are codes of at most max_activation
  int32_t max_activation;  // largest x code the row is exact for
  const char* layout;  // packed layout name with version: rows of one layout share packed weights

  bool (*fits)(const ConvShape&, uint32_t cb);  // shapes the row accepts
  size_t (*packed_bytes)(const ConvShape&, uint32_t cb);
  // canonical: [o][c][r][s] codes, one int8 each, in range of `weights`.
  void (*pack)(const ConvShape&, uint32_t cb, const int8_t* canonical, void* packed);
  void (*units)(const ConvShape&, uint32_t* units, uint32_t* panels);
  size_t (*scratch_bytes)(const ConvShape&, uint32_t cb);  // per thread
  void (*run)(const ConvArgs&, const ConvPart&, const KernelContext&);
  // Measured, relative to the direct vector kernel of the same family of cores = 1.
  float (*cost)(const ConvShape&, uint32_t cb, CpuFamily);
};

std::span<const ConvKernel> conv_kernels();  // best first, reference last
// A row is exact for a layer and runs on `isa`; a row of wider weights or codes serves narrower
// ones.
bool conv_serves(const ConvKernel&, const ConvShape&, uint32_t cb, Elem weights,
                 int32_t max_activation, IsaMask isa);
// Pure: the cheapest row that fits, first on ties. Never fails: the reference fits everything.
const ConvKernel& select_conv(const ConvShape&, uint32_t cb, Elem weights, int32_t max_activation,
                              IsaMask isa, CpuFamily);

}  // namespace mpq::kernels
