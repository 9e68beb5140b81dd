// Elementwise addition of two code tensors of one shape, each with its own scale and zero point.
//
//   v = fma(float(a - za), scale_a, fma(float(b - zb), scale_b, bias))
//   Y = clamp(round_half_even(v), lo, hi)
//   Y2 = clamp(round_half_even(fma(v, second_scale, second_bias)), second_lo, second_hi)   if
//   wanted
//
// All tensors have the channel block of a. Kernels are single-threaded and re-entrant; they may
// write the channels above C of the last block of Y and Y2 (unspecified codes) and nothing else
// outside them. Y may be A or B.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu.h"
#include "kernels/tensor.h"

namespace mpq::kernels {

struct AddShape {
  uint32_t n = 1, c = 0, h = 1, w = 1;
};

struct AddArgs {
  AddShape shape;
  Planes a, b, y;
  Planes second;  // data == nullptr when there is none
  int32_t a_zero_point = 0, b_zero_point = 0;
  float a_scale = 0.0F, b_scale = 0.0F, bias = 0.0F;
  int32_t lo = 0, hi = 255;
  float second_scale = 0.0F, second_bias = 0.0F;
  int32_t second_lo = 0, second_hi = 255;
};

// One unit is one row of one channel block of one image, numbered in that order of nesting.
constexpr uint32_t add_units(const AddShape& s, uint32_t cb) {
  return s.n * ((s.c + cb - 1) / cb) * s.h;
}

struct AddKernel {
  const char* name;  // "add_u8_avx2"
  IsaMask isa;
  void (*run)(const AddArgs&, const WorkRange&);
};

std::span<const AddKernel> add_kernels();  // best first, reference last
const AddKernel& select_add(IsaMask);      // pure; never fails

}  // namespace mpq::kernels
