#include "tests/cuda/family_problems.h"

#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/norm/norm.h"
#include "kernels/sequence/sequence.h"

namespace mpq::test {
namespace {

using Bytes = std::vector<uint8_t>;

std::vector<uint32_t> starts_of(const std::vector<uint32_t>& lengths) {
  std::vector<uint32_t> starts = {0};
  for (const uint32_t n : lengths) starts.push_back(starts.back() + n);
  return starts;
}

}  // namespace

std::vector<float> random_floats(size_t count, float lo, float hi, Rng& rng) {
  std::vector<float> values(count);
  for (float& v : values) v = rng.uniform(lo, hi);
  return values;
}

void make_attention_problem(const AttentionCase& c, Rng& rng, CudaProblem* problem) {
  const std::vector<uint32_t> starts = starts_of(c.lengths);
  const uint32_t longest = *std::max_element(c.lengths.begin(), c.lengths.end());
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

void make_norm_problem(const NormCase& c, Rng& rng, CudaProblem* problem) {
  const uint32_t tokens = c.tokens, width = c.width;
  const std::vector<float> x = random_floats(size_t{tokens} * width, -4, 4, rng),
                           residual = random_floats(x.size(), -100, 100, rng),
                           gamma = random_floats(width, -2, 2, rng),
                           beta = random_floats(width, -1, 1, rng);
  std::vector<float> y(x.size());
  std::vector<uint8_t> codes(x.size());
  kernels::LayerNormArgs a;
  a.tokens = tokens;
  a.width = width;
  a.x = x.data();
  a.residual = c.residual ? residual.data() : nullptr;
  a.gamma = gamma.data();
  a.beta = beta.data();
  a.epsilon = rng.pick({1e-12F, 1e-5F});
  a.y = y.data();
  // The group of 16 of the reference needs a whole block: codes lie in blocks of 64.
  const uint32_t blocks = (width + 63) / 64;
  std::vector<uint8_t> blocked(size_t{tokens} * blocks * 64);
  if (c.bits != 0) a.second = {blocked.data(), 64, ptrdiff_t{tokens} * 64, 0, 64};
  a.second_scale = 20.0F;
  a.second_bias = static_cast<float>(1U << c.bits) / 2;
  a.second_hi = static_cast<int32_t>(1U << c.bits) - 1;
  if (c.channel_scales) {
    a.second_gamma = beta.data();
    a.second_beta = gamma.data();
  }
  kernels::layer_norm_kernels().back().run(a, {0, tokens});
  for (uint32_t t = 0; t < tokens; ++t)
    for (uint32_t i = 0; i < width; ++i)
      codes[size_t{t} * width + i] = blocked[(size_t{i / 64} * tokens + t) * 64 + i % 64];

  cuda::LayerNormParams p;
  p.tokens = tokens;
  p.width = width;
  p.x = problem->device.upload(x);
  if (c.residual) p.residual = problem->device.upload(residual);
  p.gamma = problem->device.upload(gamma);
  p.beta = problem->device.upload(beta);
  p.epsilon = a.epsilon;
  p.y = problem->expect("y", y);
  if (c.bits != 0) p.second = problem->expect_codes("second", codes, width, c.bits);
  p.second_scale = a.second_scale;
  p.second_bias = a.second_bias;
  p.second_hi = a.second_hi;
  if (c.channel_scales) {
    p.second_gamma = problem->device.upload(beta);
    p.second_beta = problem->device.upload(gamma);
  }
  problem->launch_other("layer_norm", p);
  problem->text = std::to_string(tokens) + " tokens of " + std::to_string(width);
}

void make_sequence_pool_problem(const SequencePoolCase& c, Rng& rng, CudaProblem* problem) {
  const std::vector<uint32_t> starts = starts_of(c.lengths);
  const auto sequences = static_cast<uint32_t>(c.lengths.size());
  std::vector<float> x = random_floats(size_t{starts.back()} * c.width, -3, 3, rng);
  if (c.negative_zeros) std::fill(x.begin(), x.end(), -0.0F);
  std::vector<float> y(size_t{sequences} * c.width);
  kernels::pool_sequences(
      {x.data(), starts.data(), sequences, c.width, c.mean, c.normalise, y.data()}, {0, sequences});

  cuda::SequencePoolParams p;
  p.x = problem->device.upload(x);
  p.starts = problem->device.upload(starts);
  p.sequences = sequences;
  p.width = c.width;
  p.mean = c.mean ? 1 : 0;
  p.normalise = c.normalise ? 1 : 0;
  p.y = problem->expect("y", y);
  problem->launch_other("pool_sequences", p);
}

}  // namespace mpq::test
