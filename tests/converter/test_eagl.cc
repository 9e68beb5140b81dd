#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "converter/precision/eagl.h"

using namespace mpq::convert;
using namespace mpq::convert::precision;

namespace {

std::vector<float> gaussian(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(rng);
  return values;
}

// Two linears that read one tensor, a third behind them; weights 2 x 4 each.
Graph small_graph(const std::vector<std::vector<float>>& weights) {
  Graph graph;
  ValueId x = graph.add_value({.name = "x", .shape = {1, 4}});
  graph.inputs = {x};
  const auto add = [&](const std::string& name, ValueId in, std::vector<float> data) {
    const ValueId w = graph.add_value(
        {.name = name + ".w", .shape = {2, 4}, .data = std::move(data), .is_constant = true});
    const ValueId y = graph.add_value({.name = name + ".y", .shape = {1, 2}});
    graph.nodes.push_back({.name = name, .op = Linear{}, .inputs = {in, w}, .output = y});
    return y;
  };
  for (size_t i = 0; i < weights.size(); ++i)
    graph.outputs = {add("fc" + std::to_string(i), x, weights[i])};
  return graph;
}

}  // namespace

TEST_CASE("eagl: entropies of hand-made histograms") {
  CHECK_EQ(entropy_bits(std::vector<uint64_t>{5}), 0.0);
  CHECK_EQ(entropy_bits(std::vector<uint64_t>(16, 3)), doctest::Approx(4.0).epsilon(1e-12));
  CHECK_EQ(entropy_bits(std::vector<uint64_t>{7, 0, 7, 7, 0, 7}),
           doctest::Approx(2.0).epsilon(1e-12));
  CHECK_EQ(entropy_bits(std::vector<uint64_t>{8, 4, 2, 1, 1}),
           doctest::Approx(1.875).epsilon(1e-12));
}

TEST_CASE("eagl: entropies of codes, negative ones too, pooled and per channel") {
  const std::vector<int8_t> codes = {-8, -8, 7, 7, 1, 1, 1, 1};
  CHECK_EQ(code_entropy(codes), doctest::Approx(1.5));             // 1/4, 1/4, 1/2
  CHECK_EQ(mean_channel_entropy(codes, 2), doctest::Approx(0.5));  // 1 and 0
}

TEST_CASE("eagl: Gaussian weights have the entropies known for their steps") {
  // LSQ's starting step is 0.6031 sigma at 4 bit and 1.5958 sigma at 2 bit: 2.798 and 1.459 bits.
  // The step of least squared error is near 0.34 and 1.05 sigma: 3.58 and 1.782 bits.
  const std::vector<float> weights = gaussian(1 << 20, 1);
  const auto entropy = [&](int bits, StepRule rule) {
    return code_entropy(weight_codes(weights, 1, bits, rule));
  };
  CHECK_EQ(entropy(4, StepRule::kLsq), doctest::Approx(2.798).epsilon(0.002));
  CHECK_EQ(entropy(2, StepRule::kLsq), doctest::Approx(1.459).epsilon(0.002));
  CHECK_EQ(entropy(4, StepRule::kMse), doctest::Approx(3.58).epsilon(0.01));
  CHECK_EQ(entropy(2, StepRule::kMse), doctest::Approx(1.782).epsilon(0.02));
}

TEST_CASE("eagl: codes stay in the range of their width") {
  for (const int bits : {2, 4, 8})
    for (const StepRule rule : {StepRule::kMse, StepRule::kLsq})
      for (const int8_t code : weight_codes(gaussian(4096, 2), 4, bits, rule)) {
        REQUIRE_GE(code, -(1 << (bits - 1)));
        REQUIRE_LE(code, (1 << (bits - 1)) - 1);
      }
  for (const int8_t code : weight_codes(std::vector<float>(8, 0.0F), 2, 4, StepRule::kMse))
    CHECK_EQ(code, 0);
}

TEST_CASE("eagl: a layer's own codes of the high width are used as they are") {
  Graph graph = small_graph({std::vector<float>(8, 0.5F)});
  graph.nodes[0].weight_quant = WeightQuant{
      {.bits = 4, .is_signed = true, .scale = {0.1F}, .lo = -8, .hi = 7}, {0, 0, 1, 1, 2, 2, 3, 3}};
  const auto selection = Selection::of(graph);
  REQUIRE(selection.ok());
  const auto scores = eagl(graph, *selection, 4, 2);
  REQUIRE(scores.ok());
  CHECK_EQ(scores->layer_entropy[0], doctest::Approx(2.0));
  CHECK_EQ(scores->gain[0], doctest::Approx(2.0));
}

TEST_CASE("eagl: options change the gain of a group as they say") {
  // Codes with a step that 4 bits hold exactly: eight values, and one value twice as often as the
  // other.
  const Graph graph = small_graph({{-4, -3, -2, -1, 1, 2, 3, 7}, {7, 7, 7, 7, 7, 7, -7, -7}});
  const auto selection = Selection::of(graph);
  REQUIRE(selection.ok());
  REQUIRE_EQ(selection->groups.size(), 1);
  const auto gain = [&](EaglOptions options) {
    const auto scores = eagl(graph, *selection, 4, 2, options);
    REQUIRE(scores.ok());
    return scores->gain[0];
  };
  const auto h = eagl(graph, *selection, 4, 2);
  REQUIRE(h.ok());
  const double h0 = h->layer_entropy[0], h1 = h->layer_entropy[1];
  CHECK_EQ(gain({}), doctest::Approx(h0 + h1));
  CHECK_EQ(gain({.group = GroupGain::kMean}), doctest::Approx((h0 + h1) / 2));
  CHECK_EQ(gain({.group = GroupGain::kMax}), doctest::Approx(std::max(h0, h1)));
  CHECK_EQ(gain({.gain = EntropyGain::kWeighted}), doctest::Approx(8 * (h0 + h1)));
  CHECK_EQ(gain({.gain = EntropyGain::kExcess}),
           doctest::Approx(std::max(0.0, h0 - 2) + std::max(0.0, h1 - 2)));
  CHECK_LT(gain({.gain = EntropyGain::kDifference}), h0 + h1);
}
