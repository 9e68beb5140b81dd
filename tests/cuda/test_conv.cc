#include <doctest/doctest.h>

#include "tests/cuda/conv_problem.h"

namespace mpq::test {
namespace {

void require_case(const cuda::ConvKernel& kernel, const CudaConvCase& c, Rng& rng) {
  CudaProblem problem;
  make_conv_problem(kernel, c, rng, &problem);
  require_everywhere(problem);
}

TEST_CASE("every CUDA convolution gives the reference's bytes on ragged matrix products") {
  Rng rng(test_seed());
  for (const cuda::ConvKernel& kernel : cuda::kConvKernels)
    for (uint32_t i = 0; i < test_cases(4); ++i) {
      CudaConvCase c;
      c.w = 1 + rng.below(2 * kernel.tile_m);
      c.c = 1 + rng.below(rng.pick({64U, 300U}));
      c.o = 1 + rng.below(rng.pick({40U, 150U}));
      c.splits = rng.pick({1U, 1U, 2U, 5U});
      require_case(kernel, random_epilogue(c, kernel, rng), rng);
    }
}

TEST_CASE("every CUDA convolution gives the reference's bytes on ragged images") {
  Rng rng(test_seed() + 1);
  for (const cuda::ConvKernel& kernel : cuda::kConvKernels)
    for (uint32_t i = 0; i < test_cases(4); ++i) {
      CudaConvCase c;
      c.n = 1 + rng.below(3);
      c.r = rng.pick({1U, 3U, 4U, 7U});
      c.s = rng.pick({1U, 3U, 5U});
      c.stride_h = 1 + rng.below(2);
      c.stride_w = 1 + rng.below(2);
      c.dilation_h = rng.chance(4) ? 2 : 1;
      c.dilation_w = rng.chance(4) ? 2 : 1;
      c.pad_top = rng.below(c.r);
      c.pad_bottom = rng.below(c.r);
      c.pad_left = rng.below(c.s);
      c.pad_right = rng.below(c.s);
      c.h = (c.r - 1) * c.dilation_h + 1 + rng.below(7);
      c.w = (c.s - 1) * c.dilation_w + 1 + rng.below(7);
      c.c = 1 + rng.below(rng.pick({16U, 40U, 130U}));
      c.o = 1 + rng.below(70);
      c.splits = rng.pick({1U, 1U, 3U});
      require_case(kernel, random_epilogue(c, kernel, rng), rng);
    }
}

}  // namespace
}  // namespace mpq::test
