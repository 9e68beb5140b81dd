// The choice of a convolution's kernel: what it says must be launchable, and follow the shape.
#include <doctest/doctest.h>

#include <initializer_list>

#include "kernels/cuda/choose.h"
#include "kernels/cuda/weights.h"
#include "tests/support/rng.h"

namespace mpq::test {
namespace {

constexpr cuda::Gpu kGpus[] = {{75, 40}, {80, 108}, {86, 72}, {89, 128}, {90, 132}};

cuda::ConvParams product(uint32_t m, uint32_t o, uint32_t k_steps) {
  cuda::ConvParams p;
  p.w = p.ow = m;
  p.o = o;
  p.k_steps = k_steps;
  return p;
}

TEST_CASE("choose_conv gives a kernel of the widths, and no empty part of k") {
  Rng rng(test_seed());
  for (uint32_t i = 0; i < test_cases(400); ++i) {
    const cuda::ConvParams p = product(1 + rng.below(rng.pick({64U, 5000U, 800000U})),
                                       1 + rng.below(3000), 1 + rng.below(rng.pick({4U, 80U})));
    for (const cuda::Gpu& gpu : kGpus)
      for (const uint32_t a_bits : {8U, 4U, 2U})
        for (const uint32_t w_bits : {8U, 4U, 2U}) {
          const cuda::ConvChoice choice = cuda::choose_conv(gpu, a_bits, w_bits, p);
          REQUIRE(choice.kernel != nullptr);
          CHECK(choice.kernel->a_bits == a_bits);
          CHECK(choice.kernel->w_bits == w_bits);
          CHECK_FALSE(choice.kernel->gelu);
          const uint32_t stages = cuda::blocks_of(p.k_steps, a_bits == 8 ? 1 : 2);
          REQUIRE(choice.splits >= 1);
          REQUIRE(choice.splits <= stages);
          const uint32_t part = cuda::blocks_of(stages, choice.splits);
          CHECK((choice.splits - 1) * part < stages);
        }
  }
}

TEST_CASE("choose_conv splits k where there are few pixels, and only there") {
  // The last 3 x 3 layers of ResNet-50: 49 pixels, 512 channels.
  CHECK(cuda::choose_conv({80, 108}, 4, 4, product(49, 512, 72)).splits > 1);
  CHECK(cuda::choose_conv({80, 108}, 4, 4, product(256 * 49, 512, 72)).splits == 1);
  // More multiprocessors do not want fewer blocks.
  const auto blocks = [](uint32_t processors) {
    const cuda::ConvParams p = product(49, 512, 72);
    const cuda::ConvChoice c = cuda::choose_conv({80, processors}, 4, 4, p);
    const cuda::Grid grid = cuda::grid_of(*c.kernel, p);
    return grid.x * grid.y * c.splits;
  };
  CHECK(blocks(108) >= blocks(20));
  CHECK(blocks(20) >= blocks(1));
}

TEST_CASE("choose_conv takes large tiles for large products and small ones for small") {
  CHECK(cuda::choose_conv({80, 108}, 4, 4, product(200000, 256, 36)).kernel->tile_m == 128);
  CHECK(cuda::choose_conv({80, 108}, 4, 4, product(32, 64, 4)).kernel->tile_m == 32);
}

TEST_CASE("choose_conv knows which kernels have an activation") {
  cuda::ConvParams p = product(100, 100, 12);
  p.epilogue.activation = cuda::Activation::kGelu;
  CHECK(cuda::choose_conv({80, 108}, 8, 4, p).kernel->gelu);
  CHECK(cuda::choose_conv({80, 108}, 2, 8, p).kernel == nullptr);
}

}  // namespace
}  // namespace mpq::test
