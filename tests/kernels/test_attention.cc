#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/isa_config.h"
#include "kernels/math/map.h"
#include "tests/kernels/amx_on_model.h"
#include "tests/kernels/planes_operand.h"

namespace mpq::test {
namespace {

using kernels::attention_kernels;
using kernels::AttentionArgs;
using kernels::AttentionKernel;
using kernels::Planes;
using kernels::WorkRange;

struct AttentionCase {
  std::vector<uint32_t> lengths;
  uint32_t heads = 1, head_size = 1, max_length = 1;
  bool bias = false;
  bool extreme = false;
};

uint8_t* code_at(const Planes& p, uint32_t token, uint32_t column) {
  return p.data + column / p.cb * p.plane + token * p.image + column % p.cb;
}

// The definition of attention.h once more: matrices of whole sequences.
void plain_attention(const AttentionArgs& a) {
  const uint32_t d = a.head_size;
  const auto real = [&](uint32_t token, uint32_t part, uint32_t head, uint32_t c) {
    return static_cast<int64_t>(*code_at(a.qkv, token, (part * a.heads + head) * d + c)) - 128;
  };
  for (uint32_t b = 0; b < a.sequences; ++b)
    for (uint32_t h = 0; h < a.heads; ++h) {
      const uint32_t start = a.starts[b], n = a.starts[b + 1] - start;
      for (uint32_t i = 0; i < n; ++i) {
        std::vector<float> s(n);
        for (uint32_t j = 0; j < n; ++j) {
          int64_t dot = 0;
          for (uint32_t c = 0; c < d; ++c)
            dot += real(start + i, 0, h, c) * real(start + j, 1, h, c);
          const int64_t place = int64_t{j} - i + a.max_length - 1;
          const float bias =
              a.relative_bias == nullptr
                  ? 0.0F
                  : a.relative_bias[static_cast<int64_t>(h) * (2 * a.max_length - 1) + place];
          s[j] = std::fmaf(static_cast<float>(dot), a.score_scale[h], bias);
        }
        const float largest = *std::max_element(s.begin(), s.end());
        for (float& x : s) x -= largest;
        kernels::map_kernels().back().run[static_cast<int>(kernels::Function::kPartsOf255)](
            s.data(), s.data(), n);
        int64_t total = 0;
        std::vector<int64_t> p;
        for (const float e : s) p.push_back(std::lrint(e));
        for (const int64_t x : p) total += x;
        for (uint32_t c = 0; c < d; ++c) {
          int64_t acc = 0;
          for (uint32_t j = 0; j < n; ++j) acc += p[j] * real(start + j, 2, h, c);
          const float v = std::fmaf(static_cast<float>(acc),
                                    a.value_scale[h] / static_cast<float>(total), a.out_bias);
          const float bounded =
              std::fmin(std::fmax(v, static_cast<float>(a.lo)), static_cast<float>(a.hi));
          *code_at(a.y, start + i, h * d + c) = static_cast<uint8_t>(std::lrint(bounded));
        }
      }
    }
}

Problem attention_problem(const AttentionKernel& row, const AttentionCase& c, Rng& rng) {
  Problem p;
  std::vector<uint32_t> starts = {0};
  for (const uint32_t n : c.lengths) starts.push_back(starts.back() + n);
  p.text = std::to_string(c.lengths.size()) + " sequences, " + std::to_string(starts.back()) +
           " tokens, " + std::to_string(c.heads) + " heads of " + std::to_string(c.head_size) +
           (c.bias ? ", bias" : "");
  const uint32_t width = c.heads * c.head_size, tokens = starts.back();
  const auto matrix = [&](uint32_t columns) {  // tokens side by side in one row
    PlanesSpec spec = {.c = columns, .w = tokens, .cb = kernels::channel_block(columns)};
    spec.plane_gap = rng.below(3);
    return spec;
  };
  PlanesOperand qkv = add_planes(&p, "qkv", matrix(3 * width), Role::kInput, [&](auto...) {
    return c.extreme ? rng.pick({0, 255}) : rng.between(0, 255);
  });
  PlanesOperand y = add_output_planes(&p, "y", matrix(width));
  qkv.geometry.image = qkv.geometry.cb;
  y.geometry.image = y.geometry.cb;
  const auto floats = [&](size_t count, float low, float high) {
    std::vector<float> values(count);
    for (float& v : values) v = rng.uniform(low, high);
    return values;
  };
  const float spread = rng.pick({1e-4F, 2e-3F, 0.05F});
  const size_t starts_at = p.add("starts", starts, Role::kInput, 4);
  const size_t score = p.add("score_scale", floats(c.heads, 0.0F, spread), Role::kInput, 4);
  const size_t value = p.add("value_scale", floats(c.heads, 0.1F, 1.5F), Role::kInput, 4);
  const size_t biases = c.bias ? size_t{c.heads} * (2 * c.max_length - 1) : 1;
  const size_t bias = p.add("relative_bias", floats(biases, -3.0F, 3.0F), Role::kInput, 4);
  AttentionArgs args = {.sequences = static_cast<uint32_t>(c.lengths.size()),
                        .heads = c.heads,
                        .head_size = c.head_size,
                        .max_length = c.max_length};
  args.hi = rng.pick({3, 15, 255});
  args.out_bias = static_cast<float>(args.hi) / 2.0F;
  const auto bind = [=](Pointers at) {
    AttentionArgs a = args;
    a.starts = reinterpret_cast<const uint32_t*>(at[starts_at]);
    a.qkv = qkv.at(at);
    a.y = y.at(at);
    a.score_scale = reinterpret_cast<const float*>(at[score]);
    a.value_scale = reinterpret_cast<const float*>(at[value]);
    if (c.bias) a.relative_bias = reinterpret_cast<const float*>(at[bias]);
    return a;
  };
  const size_t bytes = row.scratch_bytes(c.head_size, c.max_length);
  const size_t scratch = p.add("scratch", std::vector<uint8_t>(bytes), Role::kScratch, 64);
  p.reference = [bind](Pointers at) { plain_attention(bind(at)); };
  p.kernel = [bind, scratch, bytes, &row, units = kernels::attention_units(args)](Pointers at,
                                                                                  Rng* parts) {
    run_units(units, parts, [&](WorkRange range) {
      row.run(bind(at), range, {at[scratch], bytes});
    });
  };
  return p;
}

// The table's rows and, as far as this build has it, the AMX row on a model of tiles.
std::span<const AttentionKernel> rows() {
  static const std::vector<AttentionKernel> kRows = [] {
    std::vector<AttentionKernel> all(attention_kernels().begin(), attention_kernels().end());
#if MPQ_HAVE_AMX
    all.push_back(amx_attention_on_model());
#endif
    return all;
  }();
  return kRows;
}

TEST_CASE("attention: every kernel equals the definition for all lengths and head sizes") {
  for_each_kernel(rows(), [](const AttentionKernel& row, Rng& rng) {
    const uint32_t wanted = test_cases(60);
    for (uint32_t i = 0; i < wanted; ++i) {
      AttentionCase c = {.heads = 1 + rng.below(4),
                         .head_size = rng.pick({1U, 8U, 20U, 32U, 33U, 64U})};
      for (uint32_t s = 0; s <= rng.below(4); ++s) c.lengths.push_back(1 + rng.below(40));
      c.max_length = 40;
      c.bias = rng.chance(2);
      c.extreme = rng.chance(4);
      const Problem p = attention_problem(row, c, rng);
      require_ok(row.name, p, check(p, rng));
    }
    // As in BERT-base, and the longest sums there are.
    for (const bool extreme : {false, true}) {
      const AttentionCase c = {{130, 1, 512}, 2, 64, 512, extreme, extreme};
      const Problem p = attention_problem(row, c, rng);
      require_ok(row.name, p, check(p, rng));
    }
  });
}

TEST_CASE("attention: codes are near to softmax in binary64") {
  Rng rng(test_seed());
  constexpr uint32_t kTokens = 50, kSize = 32;
  std::vector<uint8_t> qkv(kTokens * 3 * kSize), y(kTokens * kSize), scratch(1 << 16);
  for (uint8_t& code : qkv) code = static_cast<uint8_t>(rng.between(0, 255));
  const uint32_t starts[] = {0, kTokens};
  const float score = 1e-4F, value = 1.0F;
  // 96 columns in two blocks of 64: the second is half empty.
  std::vector<uint8_t> planes(2 * kTokens * 64);
  for (uint32_t t = 0; t < kTokens; ++t)
    for (uint32_t c = 0; c < 3 * kSize; ++c)
      planes[(c / 64 * kTokens + t) * 64 + c % 64] = qkv[t * 3 * kSize + c];
  AttentionArgs a = {.starts = starts,
                     .sequences = 1,
                     .heads = 1,
                     .head_size = kSize,
                     .max_length = kTokens,
                     .score_scale = &score,
                     .value_scale = &value,
                     .out_bias = 128.0F};
  a.qkv = {planes.data(), 64, kTokens * 64, kTokens * 64, 64};
  a.y = {y.data(), kSize, kTokens * kSize, kTokens * kSize, kSize};
  attention_kernels().back().run(a, {0, 1}, {scratch.data(), scratch.size()});
  const auto real = [&](uint32_t t, uint32_t c) { return qkv[t * 3 * kSize + c] - 128.0; };
  for (uint32_t i = 0; i < kTokens; ++i) {
    std::vector<double> e(kTokens);
    double total = 0.0;
    for (uint32_t j = 0; j < kTokens; ++j) {
      double dot = 0.0;
      for (uint32_t c = 0; c < kSize; ++c) dot += real(i, c) * real(j, kSize + c);
      total += e[j] = std::exp(dot * double{score});
    }
    // Each p is off by at most 1/2 of 255 parts of the largest.
    const double largest = *std::max_element(e.begin(), e.end());
    const double least_total = 255.0 * total / largest - 0.5 * kTokens;
    for (uint32_t c = 0; c < kSize; ++c) {
      double mean = 0.0, distance = 0.0;
      for (uint32_t j = 0; j < kTokens; ++j) mean += e[j] / total * real(j, 2 * kSize + c);
      for (uint32_t j = 0; j < kTokens; ++j) distance += std::fabs(real(j, 2 * kSize + c) - mean);
      CHECK(std::fabs(mean + 128.0 - y[i * kSize + c]) < 0.501 + 0.501 * distance / least_total);
    }
  }
}

// Looks at the tokens of all sequences; takes keys in another order for the bias.
void run_without_boundaries(const AttentionArgs& args, const WorkRange& range,
                            const kernels::KernelContext& context) {
  AttentionArgs a = args;
  const uint32_t starts[] = {args.starts[0], args.starts[args.sequences]};
  a.starts = starts;
  a.sequences = 1;
  for (uint32_t unit = range.begin; unit < range.end; ++unit)
    if (unit < a.heads) attention_kernels().back().run(a, {unit, unit + 1}, context);
}

TEST_CASE("attention: kernels that look across sequences or forget the bias are caught") {
  Rng rng(test_seed());
  AttentionKernel row = attention_kernels().back();
  row.run = run_without_boundaries;
  CHECK(check(attention_problem(row, {{7, 5}, 2, 32, 40}, rng), rng).check == "bytes");
  row.run = [](const AttentionArgs& args, const WorkRange& range, const kernels::KernelContext& k) {
    AttentionArgs a = args;
    a.relative_bias = nullptr;
    attention_kernels().back().run(a, range, k);
  };
  CHECK(check(attention_problem(row, {{7, 5}, 2, 32, 40, true}, rng), rng).check == "bytes");
}

}  // namespace
}  // namespace mpq::test
