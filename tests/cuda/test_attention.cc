#include <doctest/doctest.h>

#include "tests/cuda/family_problems.h"

namespace mpq::test {
namespace {

TEST_CASE("CUDA attention gives the reference's bytes for sequences of any length") {
  Rng rng(test_seed());
  for (const uint32_t head_size : {32U, 64U})
    for (uint32_t i = 0; i < test_cases(8); ++i) {
      AttentionCase c;
      c.head_size = head_size;
      c.heads = 1 + rng.below(3);
      for (uint32_t j = 1 + rng.below(3); j > 0; --j)
        c.lengths.push_back(1 + rng.below(rng.pick({20U, 64U, 150U})));
      c.out_bits = rng.pick({8U, 4U, 2U});
      c.relative_bias = rng.chance(2);
      c.extreme = rng.chance(3);
      CudaProblem problem;
      make_attention_problem(c, rng, &problem);
      require_everywhere(problem);
    }
}

}  // namespace
}  // namespace mpq::test
