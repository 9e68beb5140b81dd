#include <doctest/doctest.h>

#include "kernels/attention/attention.h"
#include "tests/cuda/problem.h"
#include "tests/support/rng.h"

namespace mpq::test {
namespace {

using Bytes = std::vector<uint8_t>;

struct AttentionCase {
  std::vector<uint32_t> lengths;
  uint32_t heads = 1, head_size = 64, out_bits = 8;
  bool relative_bias = false, extreme = false;
};

void make_attention_problem(const AttentionCase& c, Rng& rng, CudaProblem* problem) {
  std::vector<uint32_t> starts = {0};
  uint32_t longest = 0;
  for (const uint32_t n : c.lengths) {
    starts.push_back(starts.back() + n);
    longest = n > longest ? n : longest;
  }
  const uint32_t tokens = starts.back(), width = c.heads * c.head_size;
  Bytes qkv(size_t{tokens} * 3 * width), y(size_t{tokens} * width);
  for (uint8_t& code : qkv)
    code = static_cast<uint8_t>(c.extreme ? rng.pick({0U, 255U}) : rng.below(256));
  std::vector<float> score_scale(c.heads), value_scale(c.heads), bias;
  const auto hi = static_cast<int32_t>((1U << c.out_bits) - 1);
  for (uint32_t h = 0; h < c.heads; ++h) {
    score_scale[h] = rng.uniform(1e-5F, c.extreme ? 1e-2F : 1e-4F);
    value_scale[h] = rng.uniform(0.1F, 2.0F) * static_cast<float>(hi) / 255;
  }
  if (c.relative_bias)
    for (uint32_t i = 0; i < c.heads * (2 * longest - 1); ++i) bias.push_back(rng.uniform(-2, 2));

  kernels::AttentionArgs a;
  a.starts = starts.data();
  a.sequences = static_cast<uint32_t>(c.lengths.size());
  a.heads = c.heads;
  a.head_size = c.head_size;
  a.max_length = longest;
  a.qkv = {qkv.data(), ptrdiff_t{3} * width, 0, 0, 3 * width};
  a.score_scale = score_scale.data();
  a.value_scale = value_scale.data();
  a.relative_bias = c.relative_bias ? bias.data() : nullptr;
  a.out_bias = static_cast<float>(hi) / 2;
  a.hi = hi;
  a.y = {y.data(), width, 0, 0, width};
  std::vector<float> scratch(longest);
  kernels::attention_kernels().back().run(a, {0, kernels::attention_units(a)},
                                          {scratch.data(), longest * sizeof(float)});

  cuda::AttentionParams p;
  p.starts = problem->device.upload(starts);
  p.sequences = a.sequences;
  p.heads = c.heads;
  p.max_length = longest;
  p.qkv = problem->upload_codes(qkv, 3 * width, 8);
  p.score_scale = problem->device.upload(score_scale);
  p.value_scale = problem->device.upload(value_scale);
  p.relative_bias = problem->device.upload(bias);
  p.out_bias = a.out_bias;
  p.hi = hi;
  p.y = problem->expect_codes("y", y, width, c.out_bits);
  problem->launch_other(c.head_size == 64 ? "attention_64" : "attention_32", p);
  problem->text = std::to_string(c.lengths.size()) + " sequences, longest " +
                  std::to_string(longest) + ", heads " + std::to_string(c.heads) + " of " +
                  std::to_string(c.head_size);
}

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
