#include <doctest/doctest.h>

#include "tests/cuda/family_problems.h"

namespace mpq::test {
namespace {

TEST_CASE("CUDA layer normalisation gives the reference's bytes for any width") {
  Rng rng(test_seed());
  for (uint32_t i = 0; i < test_cases(24); ++i) {
    CudaProblem problem;
    make_norm_problem({.tokens = 1 + rng.below(20),
                       .width = 1 + rng.below(rng.pick({20U, 200U, 800U})),
                       .bits = rng.pick({0U, 8U, 4U, 2U}),
                       .residual = rng.chance(2),
                       .channel_scales = rng.chance(2)},
                      rng, &problem);
    require_everywhere(problem);
  }
}

}  // namespace
}  // namespace mpq::test
