// Into and out of activation planes: the edges of a network.
//
//   quantize:        Y = clamp(round_half_even(x / scale) + zero_point, lo, hi)     x / scale in
//   binary32 image_quantize:  Y[n][y][x][c] = table[c][pixel[n][y][x][c]] pack, unpack:    dense
//   codes to planes and back fill_halo:       the code of real 0 around an image
//
// Kernels are single-threaded and re-entrant; they may write the channels above C of the last block
// of Y (unspecified codes) and nothing else outside Y.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu.h"
#include "kernels/tensor.h"

namespace mpq::kernels {

// A dense tensor of elements: element (n, c, y, x) is at n * image + c * channel + y * row + x *
// pixel.
struct DenseStrides {
  ptrdiff_t image = 0, channel = 0, row = 0, pixel = 0;  // in elements
};
constexpr DenseStrides nchw(uint32_t c, uint32_t h, uint32_t w) {
  return {ptrdiff_t{c} * h * w, ptrdiff_t{h} * w, w, 1};
}
// [M, K] as one row of M pixels of K channels.
constexpr DenseStrides matrix_rows(uint32_t k) { return {0, 1, 0, k}; }

struct CodesShape {
  uint32_t n = 1, c = 0, h = 1, w = 1;
};
// One unit of every function here is one row of one channel block of one image, numbered in that
// order of nesting.
constexpr uint32_t codes_units(const CodesShape& s, uint32_t cb) {
  return s.n * ((s.c + cb - 1) / cb) * s.h;
}

struct QuantizeArgs {
  CodesShape shape;
  const float* x = nullptr;
  DenseStrides strides;
  Planes y;
  float scale = 1.0F;
  int32_t zero_point = 0, lo = 0, hi = 255;  // NaN gives lo
};

struct ImageQuantizeArgs {
  CodesShape shape;
  const uint8_t* pixels = nullptr;  // [n][h][w][c]
  const uint8_t* table = nullptr;   // [c][256]
  Planes y;
};

struct QuantizeKernel {
  const char* name;  // "quantize_f32_avx2"
  IsaMask isa;
  bool (*fits)(const QuantizeArgs&);  // looks at shape, strides and y.cb only
  void (*run)(const QuantizeArgs&, const WorkRange&);
};
struct ImageQuantizeKernel {
  const char* name;  // "image_quantize_c3_avx512vnni"
  IsaMask isa;
  bool (*fits)(const ImageQuantizeArgs&);  // looks at shape and y.cb only
  void (*run)(const ImageQuantizeArgs&, const WorkRange&);
};

std::span<const QuantizeKernel> quantize_kernels();  // best first, reference last
std::span<const ImageQuantizeKernel> image_quantize_kernels();
// Pure: the first row that fits. Never fail.
const QuantizeKernel& select_quantize(const QuantizeArgs&, IsaMask);
const ImageQuantizeKernel& select_image_quantize(const ImageQuantizeArgs&, IsaMask);

// Codes, one a byte, to planes and back. Memory moves: one version for every machine.
struct PackArgs {
  CodesShape shape;
  uint8_t* dense = nullptr;  // read by pack_codes, written by unpack_codes
  DenseStrides strides;
  Planes planes;
};
void pack_codes(const PackArgs&, const WorkRange&);
void unpack_codes(const PackArgs&, const WorkRange&);

// Writes `code` to the pixels around h x w: `top` rows above, `bottom` below, `left` and `right`
// columns beside, corners included. One unit here is one channel block of one image.
struct HaloArgs {
  CodesShape shape;
  Planes y;
  uint32_t top = 0, left = 0, bottom = 0, right = 0;
  uint8_t code = 0;
};
constexpr uint32_t halo_units(const CodesShape& s, uint32_t cb) {
  return s.n * ((s.c + cb - 1) / cb);
}
void fill_halo(const HaloArgs&, const WorkRange&);

}  // namespace mpq::kernels
