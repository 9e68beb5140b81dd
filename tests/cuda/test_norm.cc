#include <doctest/doctest.h>

#include "kernels/norm/norm.h"
#include "tests/cuda/problem.h"
#include "tests/support/rng.h"

namespace mpq::test {
namespace {

std::vector<float> random_floats(size_t count, float lo, float hi, Rng& rng) {
  std::vector<float> values(count);
  for (float& v : values) v = rng.uniform(lo, hi);
  return values;
}

void require_norm(uint32_t tokens, uint32_t width, Rng& rng) {
  const std::vector<float> x = random_floats(size_t{tokens} * width, -4, 4, rng),
                           residual = random_floats(x.size(), -100, 100, rng),
                           gamma = random_floats(width, -2, 2, rng),
                           beta = random_floats(width, -1, 1, rng);
  const uint32_t bits = rng.pick({8U, 4U, 2U});
  const bool has_residual = rng.chance(2), second = !rng.chance(4), channel_scales = rng.chance(2);
  std::vector<float> y(x.size());
  std::vector<uint8_t> codes(x.size());
  kernels::LayerNormArgs a;
  a.tokens = tokens;
  a.width = width;
  a.x = x.data();
  a.residual = has_residual ? residual.data() : nullptr;
  a.gamma = gamma.data();
  a.beta = beta.data();
  a.epsilon = rng.pick({1e-12F, 1e-5F});
  a.y = y.data();
  // The group of 16 of the reference needs a whole block: codes lie in blocks of 64.
  const uint32_t blocks = (width + 63) / 64;
  std::vector<uint8_t> blocked(size_t{tokens} * blocks * 64);
  if (second) a.second = {blocked.data(), 64, ptrdiff_t{tokens} * 64, 0, 64};
  a.second_scale = 20.0F;
  a.second_bias = static_cast<float>(1U << bits) / 2;
  a.second_hi = static_cast<int32_t>(1U << bits) - 1;
  if (channel_scales) {
    a.second_gamma = beta.data();
    a.second_beta = gamma.data();
  }
  kernels::layer_norm_kernels().back().run(a, {0, tokens});
  for (uint32_t t = 0; t < tokens; ++t)
    for (uint32_t i = 0; i < width; ++i)
      codes[size_t{t} * width + i] = blocked[(size_t{i / 64} * tokens + t) * 64 + i % 64];

  CudaProblem problem;
  cuda::LayerNormParams p;
  p.tokens = tokens;
  p.width = width;
  p.x = problem.device.upload(x);
  if (has_residual) p.residual = problem.device.upload(residual);
  p.gamma = problem.device.upload(gamma);
  p.beta = problem.device.upload(beta);
  p.epsilon = a.epsilon;
  p.y = problem.expect("y", y);
  if (second) p.second = problem.expect_codes("second", codes, width, bits);
  p.second_scale = a.second_scale;
  p.second_bias = a.second_bias;
  p.second_hi = a.second_hi;
  if (channel_scales) {
    p.second_gamma = problem.device.upload(beta);
    p.second_beta = problem.device.upload(gamma);
  }
  problem.launch_other("layer_norm", p);
  problem.text = std::to_string(tokens) + " tokens of " + std::to_string(width);
  require_everywhere(problem);
}

TEST_CASE("CUDA layer normalisation gives the reference's bytes for any width") {
  Rng rng(test_seed());
  for (uint32_t i = 0; i < test_cases(24); ++i)
    require_norm(1 + rng.below(20), 1 + rng.below(rng.pick({20U, 200U, 800U})), rng);
}

}  // namespace
}  // namespace mpq::test
