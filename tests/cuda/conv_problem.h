// Convolutions as problems for the emulator; the reference of kernels/conv says what must come out.
#pragma once

#include "kernels/conv/conv.h"
#include "kernels/cuda/kernels.h"
#include "tests/cuda/problem.h"
#include "tests/support/rng.h"

namespace mpq::test {

enum class CudaResidual : uint8_t { kNone, kFloat, kInteger };

struct CudaConvCase {
  uint32_t n = 1, h = 1, w = 1, c = 1, o = 1, r = 1, s = 1;
  uint32_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  uint32_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  uint8_t zero_point = 0;
  uint32_t splits = 1;
  kernels::Elem out = kernels::Elem::u8;
  uint32_t out_bits = 8, residual_bits = 8, second_bits = 0;  // 0: no second output
  bool acc_bias = true, corners = false, huge = false;
  bool ties = false;       // many v exactly between two codes
  bool near_ties = false;  // v that a rounded product would put exactly between two codes
  CudaResidual residual = CudaResidual::kNone;
  kernels::Activation activation = kernels::Activation::kNone;
};

// A random form of epilogue for a shape.
CudaConvCase random_epilogue(const CudaConvCase& shape, const cuda::ConvKernel&, Rng&);

void make_conv_problem(const cuda::ConvKernel&, const CudaConvCase&, Rng&, CudaProblem*);

}  // namespace mpq::test
