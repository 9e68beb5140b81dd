#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "kernels/norm/norm.h"
#include "tests/kernels/planes_operand.h"

namespace mpq::test {
namespace {

using kernels::layer_norm_kernels;
using kernels::LayerNormArgs;
using kernels::LayerNormKernel;
using kernels::WorkRange;

struct NormCase {
  uint32_t tokens = 1, width = 1;
  bool residual = false, second = false, own = false;  // own: a scale a channel
};

// The definition of norm.h once more, written on arrays of whole rows.
void plain_layer_norm(const LayerNormArgs& a, const WorkRange&) {
  const auto sum16 = [](const std::vector<float>& terms, bool squares) {
    float lane[16] = {};
    for (size_t i = 0; i < terms.size(); ++i)
      lane[i % 16] =
          squares ? std::fmaf(terms[i], terms[i], lane[i % 16]) : lane[i % 16] + terms[i];
    for (const size_t half : {8, 4, 2, 1})
      for (size_t i = 0; i < half; ++i) lane[i] = lane[i] + lane[i + half];
    return lane[0];
  };
  for (uint32_t token = 0; token < a.tokens; ++token) {
    std::vector<float> v(a.width);
    for (uint32_t i = 0; i < a.width; ++i) {
      v[i] = a.x[token * a.width + i];
      if (a.residual != nullptr) v[i] += a.residual[token * a.width + i];
    }
    const float mean = sum16(v, false) / static_cast<float>(a.width);
    for (float& x : v) x -= mean;
    const float variance = sum16(v, true) / static_cast<float>(a.width);
    const float scale = 1.0F / std::sqrt(variance + a.epsilon);
    for (uint32_t i = 0; i < a.width; ++i) {
      const float y = std::fmaf(v[i] * scale, a.gamma[i], a.beta[i]);
      a.y[token * a.width + i] = y;
      if (a.second.data == nullptr) continue;
      const float code = std::nearbyint(
          a.second_gamma == nullptr ? std::fmaf(y, a.second_scale, a.second_bias)
                                    : std::fmaf(v[i] * scale, a.second_gamma[i], a.second_beta[i]));
      a.second.data[i / a.second.cb * a.second.plane + token * a.second.image + i % a.second.cb] =
          static_cast<uint8_t>(std::min(std::max(code, static_cast<float>(a.second_lo)),
                                        static_cast<float>(a.second_hi)));
    }
  }
}

Problem norm_problem(const LayerNormKernel& row, const NormCase& c, Rng& rng) {
  Problem p;
  p.text = std::to_string(c.tokens) + " tokens of " + std::to_string(c.width) +
           (c.residual ? ", residual" : "") + (c.second ? ", codes" : "") +
           (c.own ? " with a scale a channel" : "");
  const float size = rng.pick({1e-3F, 1.0F, 100.0F}), centre = rng.uniform(-3.0F, 3.0F);
  const auto floats = [&](size_t count, float low, float high) {
    std::vector<float> values(count);
    for (float& v : values) v = rng.uniform(low, high);
    return values;
  };
  const size_t count = size_t{c.tokens} * c.width;
  const size_t x =
      p.add("x", floats(count, size * (centre - 1), size * (centre + 1)), Role::kInput);
  const size_t residual =
      p.add("residual", floats(c.residual ? count : 1, -size, size), Role::kInput);
  const size_t gamma = p.add("gamma", floats(c.width, -2.0F, 2.0F), Role::kInput);
  const size_t beta = p.add("beta", floats(c.width, -1.0F, 1.0F), Role::kInput);
  const size_t own_gamma = p.add("second_gamma", floats(c.width, -60.0F, 60.0F), Role::kInput);
  const size_t own_beta = p.add("second_beta", floats(c.width, 0.0F, 255.0F), Role::kInput);
  const size_t y = p.add("y", std::vector<float>(count), Role::kOutput);
  // A matrix: tokens side by side in one row.
  PlanesOperand second;
  if (c.second) {
    PlanesSpec spec = {.c = c.width, .w = c.tokens, .cb = kernels::channel_block(c.width)};
    spec.plane_gap = rng.below(4);
    second = add_output_planes(&p, "second", spec);
    second.geometry.image = spec.cb;
  }
  LayerNormArgs args = {.tokens = c.tokens, .width = c.width, .epsilon = 1e-12F};
  args.second_hi = rng.pick({3, 15, 255});
  args.second_lo = rng.chance(3) ? 1 : 0;
  args.second_scale = static_cast<float>(args.second_hi) / 4.0F;
  args.second_bias = static_cast<float>(args.second_hi) / rng.uniform(1.5F, 3.0F);
  const auto bind = [=](Pointers at) {
    LayerNormArgs a = args;
    a.x = reinterpret_cast<const float*>(at[x]);
    if (c.residual) a.residual = reinterpret_cast<const float*>(at[residual]);
    a.gamma = reinterpret_cast<const float*>(at[gamma]);
    a.beta = reinterpret_cast<const float*>(at[beta]);
    a.y = reinterpret_cast<float*>(at[y]);
    if (c.second) a.second = second.at(at);
    if (c.own) {
      a.second_gamma = reinterpret_cast<const float*>(at[own_gamma]);
      a.second_beta = reinterpret_cast<const float*>(at[own_beta]);
    }
    return a;
  };
  const uint32_t units = c.tokens;
  p.reference = [bind, units](Pointers at) { plain_layer_norm(bind(at), WorkRange{0, units}); };
  p.kernel = [bind, units, &row](Pointers at, Rng* parts) {
    run_units(units, parts, [&](WorkRange range) { row.run(bind(at), range); });
  };
  return p;
}

TEST_CASE("layer norm: every kernel equals the definition for every width and option") {
  for_each_kernel(layer_norm_kernels(), [](const LayerNormKernel& row, Rng& rng) {
    for (uint32_t width = 1; width <= 140; ++width) {
      const NormCase c = {1 + rng.below(5), width, rng.chance(2), rng.chance(2)};
      const Problem p = norm_problem(row, c, rng);
      require_ok(row.name, p, check(p, rng));
    }
    for (const uint32_t width : {384U, 768U, 1000U}) {
      const Problem p = norm_problem(row, {9, width, true, true, rng.chance(2)}, rng);
      require_ok(row.name, p, check(p, rng));
    }
  });
}

TEST_CASE("layer norm: near a binary64 evaluation") {
  Rng rng(test_seed());
  constexpr uint32_t kWidth = 768;
  std::vector<float> x(kWidth), gamma(kWidth, 1.0F), beta(kWidth, 0.0F), y(kWidth);
  for (float& v : x) v = rng.uniform(-4.0F, 6.0F);
  LayerNormArgs a = {.tokens = 1,
                     .width = kWidth,
                     .x = x.data(),
                     .gamma = gamma.data(),
                     .beta = beta.data(),
                     .epsilon = 1e-12F,
                     .y = y.data()};
  layer_norm_kernels().back().run(a, {0, 1});
  double mean = 0.0, variance = 0.0;
  for (const float v : x) mean += v / double{kWidth};
  for (const float v : x) variance += (v - mean) * (v - mean) / double{kWidth};
  for (uint32_t i = 0; i < kWidth; ++i)
    CHECK(std::fabs(y[i] - (x[i] - mean) / std::sqrt(variance)) < 1e-6);
}

TEST_CASE("layer norm: kernels that sum the wrong elements or round codes down are caught") {
  Rng rng(test_seed());
  LayerNormKernel row = layer_norm_kernels().back();
  row.run = [](const LayerNormArgs& args, const WorkRange& range) {
    LayerNormArgs a = args;  // the last element of each row is left out
    for (uint32_t token = range.begin; token < range.end; ++token) {
      a.width = args.width - 1;
      a.x = args.x + size_t{token} * args.width;
      a.residual = args.residual == nullptr ? nullptr : args.residual + size_t{token} * args.width;
      a.y = args.y + size_t{token} * args.width;
      a.second.data = args.second.data + token * args.second.image;
      layer_norm_kernels().back().run(a, {0, 1});
    }
  };
  const Problem wrong = norm_problem(row, {4, 33, true, true}, rng);
  CHECK(check(wrong, rng).check == "bytes");
  row.run = [](const LayerNormArgs& args, const WorkRange& range) {
    LayerNormArgs a = args;
    a.second_bias -= 0.5F;
    layer_norm_kernels().back().run(a, range);
  };
  const Problem down = norm_problem(row, {4, 33, false, true}, rng);
  CHECK(check(down, rng).check == "bytes");
}

}  // namespace
}  // namespace mpq::test
