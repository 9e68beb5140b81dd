// Layer normalisation of rows, one row a token (Ba, Kiros and Hinton, 2016), all in binary32:
//
//   v = x + residual                              without a residual: x
//   mean = sum16(v) / float(width);  d = v - mean
//   variance = sum16 of d with lanes fma(d, d, lane) / float(width)
//   y = fma(d * (1 / sqrt(variance + epsilon)), gamma, beta)
//   v = fma(y, second_scale, second_bias), or with a scale a channel
//       fma(d * (1 / sqrt(variance + epsilon)), second_gamma, second_beta)
//   code = clamp(round_half_even(v), second_lo, second_hi)
//
// sum16: math/lanes.h. Single-threaded, re-entrant. Rows are dense. May write the channels above
// width of the last block of the codes (unspecified codes) and nothing else outside its outputs.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cpu.h"
#include "kernels/tensor.h"

namespace mpq::kernels {

struct LayerNormArgs {
  uint32_t tokens = 0, width = 0;
  const float* x = nullptr;
  const float* residual = nullptr;  // null: none
  const float* gamma = nullptr;     // [width], as beta
  const float* beta = nullptr;
  float epsilon = 0.0F;
  float* y = nullptr;
  Planes second;  // codes, a token a pixel; data null: none
  float second_scale = 0.0F, second_bias = 0.0F;
  const float* second_gamma = nullptr;  // [width], as second_beta; null: by second_scale
  const float* second_beta = nullptr;
  int32_t second_lo = 0, second_hi = 255;
};

struct LayerNormKernel {
  const char* name;  // "layer_norm_f32_avx2"
  IsaMask isa;
  void (*run)(const LayerNormArgs&, const WorkRange&);  // a unit is a token
};

std::span<const LayerNormKernel> layer_norm_kernels();  // best first, reference last
const LayerNormKernel& select_layer_norm(IsaMask isa);  // pure, never fails

}  // namespace mpq::kernels
