// Convolutions as problems for the harness: shape, form of the epilogue and kind of data.
#pragma once

#include <string>
#include <vector>

#include "kernels/conv/conv.h"
#include "tests/kernels/harness.h"

namespace mpq::test {

enum class ConvData : uint8_t {
  kRandom,
  kCorners,  // activations all 0 or all maximal, weights all lowest or all highest
  kRamps,
  kTies,      // many v exactly between two codes
  kFma,       // v that a rounded product would put exactly between two codes
  kHuge,      // v beyond any code, up to infinity
  kExtremes,  // each activation 0 or maximal, each weight lowest or highest
};
enum class ConvResidual : uint8_t { kNone, kFloat, kInteger };

struct ConvCase {
  kernels::ConvShape shape;
  uint32_t x_cb = 64, y_cb = 64;
  kernels::Elem out = kernels::Elem::u8;
  int32_t lo = 0, hi = 255;
  bool acc_bias = true, second = false;
  ConvResidual residual = ConvResidual::kNone;
  bool in_place = false;  // codes are written over the residual's
  // Channels in the form of requant/fixed.h, but some; out is u8, no second, no activation, and the
  // residual none or integer.
  bool fixed = false;
  int32_t fixed_offset = 0;
  bool spoil_fixed = false;  // wrong ones, which a kernel that takes them must show
  ConvData data = ConvData::kRandom;
  kernels::Activation activation = kernels::Activation::kNone;
  // A test's own codes [n][c][h][w] and weights [o][c][r][s], instead of those of `data`.
  std::vector<int32_t> codes;
  std::vector<int8_t> weights;
};

// A dense tensor of codes or sums, [n][c][h][w], and the definition of convolution over it: a
// second source, which shares no code with the kernels.
struct DenseCodes {
  uint32_t n, c, h, w;
  std::vector<int32_t> values;
  int32_t at(uint32_t i, uint32_t channel, uint32_t y, uint32_t x) const {
    return values[((size_t{i} * c + channel) * h + y) * w + x];
  }
};
DenseCodes plain_convolution(const kernels::ConvShape&, const DenseCodes& x,
                             const std::vector<int8_t>& weights);

// The parts of a problem that a test may want to look at.
struct ConvProblem {
  Problem problem;
  DenseCodes x, sums;  // sums without acc_bias
  std::vector<int8_t> weights;
  std::vector<int32_t> acc_bias;  // empty when there is none
  size_t y = 0, dense = 0;        // operands; dense only for f32 and s32
};
ConvProblem conv_problem(const kernels::ConvKernel&, const ConvCase&, Rng&);

// pack() and run() of a row.
Verdict check_conv(const kernels::ConvKernel&, const ConvCase&, Rng&);
void require_conv(const kernels::ConvKernel&, const ConvCase&, Rng&);

// A random epilogue, gaps and data kind for a shape.
ConvCase random_conv_case(const kernels::ConvShape&, Rng&);

// The smallest square kernel that a row accepts: 1, or 3 for the rows made for 3 x 3.
uint32_t kernel_side(const kernels::ConvKernel&);

int32_t lowest(kernels::Elem weights);
int32_t highest(kernels::Elem weights);

}  // namespace mpq::test
