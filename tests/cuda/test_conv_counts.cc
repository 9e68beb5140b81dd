// What the emulator counts while convolutions run.
#include <doctest/doctest.h>

#include "tests/cuda/conv_problem.h"

namespace mpq::test {
namespace {

TEST_CASE("no CUDA convolution has bank conflicts or products to spare") {
  Rng rng(test_seed() + 2);
  for (const cuda::ConvKernel& kernel : cuda::kConvKernels)
    for (const Architecture& arch : kArchitectures) {
      CudaConvCase c;
      c.w = 130;
      c.c = 256;
      c.o = 128;
      if (kernel.gelu) c.activation = kernels::Activation::kGelu;
      CudaProblem problem;
      make_conv_problem(kernel, c, rng, &problem);
      LaunchOptions options;
      options.count_transactions = true;
      Counters counted;
      INFO("sm_" << arch.arch << " " << problem.text);
      REQUIRE(run_problem(problem, arch, options, &counted) == "");
      CHECK(counted.ldmatrix_conflicts == 0);
      CHECK(counted.shared_conflicts == 0);
      // A product of 4-bit codes is 16 x 8 x 64, one of 8-bit codes 16 x 8 x 32.
      const bool narrow = cuda::math_bits(kernel.a_bits, kernel.w_bits, arch.arch) == 4;
      const uint64_t blocks = uint64_t{problem.launch.grid_x} * problem.launch.grid_y;
      const uint64_t products =
          blocks * (kernel.tile_m / 16) * (kernel.tile_n / 8) * (c.c / (narrow ? 64 : 32));
      CHECK(counted.products_4bit == (narrow ? products : 0));
      CHECK(counted.products_8bit == (narrow ? 0 : products));
    }
}

}  // namespace
}  // namespace mpq::test
