#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "converter/eval.h"
#include "graph_builder.h"
#include "naive_eval.h"

namespace mpq::convert {
namespace {

// Largest difference between two tensors, relative to the largest magnitude of the second.
double difference(std::span<const float> a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0.0, magnitude = 1e-6;
  for (size_t i = 0; i < b.size(); ++i) {
    worst = std::max(worst, std::isnan(a[i]) ? INFINITY : std::abs(a[i] - b[i]));
    magnitude = std::max(magnitude, std::abs(b[i]));
  }
  return worst / magnitude;
}

// Evaluates a batch of three images and compares every node's output of every image.
void compare_with_naive(const Graph& graph, double tolerance) {
  constexpr uint32_t kBatch = 3;
  REQUIRE_MESSAGE(check(graph).ok(), check(graph).error().message);
  uint64_t elements = 0;
  REQUIRE(checked_elements(graph.values[graph.inputs[0]].shape, &elements));
  GraphBuilder random(7);
  const std::vector<float> input = random.random_data(elements * kBatch);
  auto evaluator = Evaluator::create(graph, kBatch);
  REQUIRE_MESSAGE(evaluator.ok(), evaluator.error().message);
  std::map<std::string, std::vector<float>> seen;
  const auto output = evaluator->run(input, [&](const Node& node, std::span<const float> out) {
    seen[node.name].assign(out.begin(), out.end());
    return true;
  });
  REQUIRE(output.ok());
  CHECK(*output == seen.at(graph.nodes.back().name));
  for (uint32_t image = 0; image < kBatch; ++image) {
    const auto begin = input.begin() + static_cast<ptrdiff_t>(image * elements);
    const auto values =
        naive_eval(graph, std::vector<float>(begin, begin + static_cast<ptrdiff_t>(elements)));
    for (const Node& node : graph.nodes) {
      CAPTURE(node.name);
      const std::vector<double>& want = values.at(node.output);
      const std::span<const float> got(seen.at(node.name).data() + image * want.size(),
                                       want.size());
      CHECK(difference(got, want) <= tolerance);
    }
  }
}

Conv conv3(uint32_t stride) {
  return {.stride_h = stride,
          .stride_w = stride,
          .pad_top = 1,
          .pad_left = 1,
          .pad_bottom = 1,
          .pad_right = 1};
}

}  // namespace

TEST_CASE("eval: a residual network equals the plain loops at every node") {
  GraphBuilder b;
  const ValueId x = b.input({1, 3, 17, 15});
  const ValueId stem =
      b.node(Relu{}, {b.node(conv3(2), {x, b.random({20, 3, 3, 3}), b.random({20})})});
  const ValueId pooled = b.node(MaxPool{.kernel_h = 3,
                                        .kernel_w = 3,
                                        .stride_h = 2,
                                        .stride_w = 2,
                                        .pad_top = 1,
                                        .pad_left = 1,
                                        .pad_right = 1},
                                {stem});
  const ValueId branch = b.node(conv3(1), {pooled, b.random({20, 20, 3, 3}, 0.1F)});
  const ValueId normal =
      b.node(BatchNorm{.epsilon = 1e-3F}, {branch, b.random({20}), b.random({20}), b.random({20}),
                                           b.constant({20}, std::vector<float>(20, 0.5F))});
  const ValueId sum = b.node(Clip{.lo = -0.5F, .hi = 2.0F}, {b.node(Add{}, {normal, pooled})});
  const ValueId flat = b.node(Flatten{}, {b.node(AvgPool{}, {sum})});
  const ValueId y = b.node(Linear{}, {flat, b.random({10, 20}), b.random({10})});
  compare_with_naive(b.finish(y), 2e-5);
}

TEST_CASE("eval: groups, dilation, uneven strides and padding") {
  GraphBuilder b;
  const ValueId x = b.input({1, 8, 11, 13});
  const Conv depthwise{.stride_h = 2,
                       .stride_w = 1,
                       .pad_top = 1,
                       .pad_left = 2,
                       .pad_bottom = 0,
                       .pad_right = 1,
                       .groups = 8};
  const ValueId d = b.node(depthwise, {x, b.random({8, 1, 3, 3}), b.random({8})});
  const Conv grouped{.pad_top = 2,
                     .pad_left = 2,
                     .pad_bottom = 2,
                     .pad_right = 2,
                     .dilation_h = 2,
                     .dilation_w = 2,
                     .groups = 2};
  const ValueId g = b.node(grouped, {d, b.random({6, 4, 3, 3})});
  const ValueId p =
      b.node(AvgPool{.kernel_h = 2, .kernel_w = 3, .stride_h = 1, .stride_w = 2}, {g});
  compare_with_naive(b.finish(b.node(Flatten{}, {p})), 2e-5);
}

TEST_CASE("eval: fake quantisation and integer weights are on the grid, ties to even") {
  GraphBuilder b;
  const ValueId x = b.input({1, 2, 1, 6});
  const QuantSpec u4{.bits = 4, .scale = {0.5F}, .zero_point = 3, .lo = 0, .hi = 15};
  const ValueId q = b.node(FakeQuant{u4}, {x});
  const ValueId weights = b.constant({2, 2, 1, 1}, {9, 9, 9, 9});  // only the codes may count
  const ValueId y = b.node(Conv{}, {q, weights});
  b.graph.nodes.back().weight_quant =
      WeightQuant{.spec = {.bits = 2, .is_signed = true, .scale = {0.25F, 2.0F}, .lo = -2, .hi = 1},
                  .codes = {1, 0, 0, -2}};
  const Graph graph = b.finish(y);
  auto evaluator = Evaluator::create(graph, 1);
  REQUIRE_MESSAGE(evaluator.ok(), evaluator.error().message);
  // x / 0.5: 0.5 -> 0, 1.5 -> 2 and 2.5 -> 2 (ties to even), -0.5 -> 0; 200 + 3 -> 15, -200 + 3 ->
  // 0.
  const std::vector<float> input = {0.25F, 0.75F, 1.25F,  -0.25F, 100.0F, -100.0F,
                                    0.26F, 0,     -0.75F, 2,      -1,     5.99F};
  std::vector<float> grid;
  const auto output = evaluator->run(input, [&](const Node& node, std::span<const float> out) {
    if (std::holds_alternative<FakeQuant>(node.op)) grid.assign(out.begin(), out.end());
    return true;
  });
  REQUIRE(output.ok());
  CHECK(grid == std::vector<float>{0, 1, 1, 0, 6.0F, -1.5F, 0.5F, 0, -1, 2, -1, 6.0F});
  CHECK(*output == std::vector<float>{0, 0.25F, 0.25F, 0, 1.5F, -0.375F, -2, 0, 4, -8, 4, -24});
  compare_with_naive(graph, 1e-6);
}

TEST_CASE("eval: the batch does not change an image's result") {
  GraphBuilder b;
  const ValueId x = b.input({1, 3, 8, 8});
  const Graph graph = b.finish(b.node(conv3(1), {b.node(Relu{}, {x}), b.random({5, 3, 3, 3})}));
  const std::vector<float> images = b.random_data(4 * 3 * 64);
  auto four = Evaluator::create(graph, 4), one = Evaluator::create(graph, 1);
  REQUIRE(four.ok());
  REQUIRE(one.ok());
  const auto all = four->run(images);
  REQUIRE(all.ok());
  for (size_t i = 0; i < 4; ++i) {
    const auto single = one->run(std::span(images).subspan(i * 192, 192));
    REQUIRE(single.ok());
    const std::vector<double> want(single->begin(), single->end());
    CHECK(difference(std::span(*all).subspan(i * 320, 320), want) <= 1e-6);
  }
}

TEST_CASE("eval: an observer can stop the evaluation") {
  GraphBuilder b;
  const Graph graph = b.finish(b.node(Relu{}, {b.node(Relu{}, {b.input({1, 1, 2, 2})})}));
  auto evaluator = Evaluator::create(graph, 1);
  REQUIRE(evaluator.ok());
  int calls = 0;
  const auto output = evaluator->run(
      std::vector<float>(4), [&](const Node&, std::span<const float>) { return ++calls < 1; });
  REQUIRE(output.ok());
  CHECK(output->empty());
  CHECK(calls == 1);
}

TEST_CASE("eval: wrong inputs are errors that name the numbers") {
  GraphBuilder b;
  const Graph graph = b.finish(b.node(Relu{}, {b.input({1, 2, 2, 2})}));
  auto evaluator = Evaluator::create(graph, 2);
  REQUIRE(evaluator.ok());
  const auto output = evaluator->run(std::vector<float>(8));
  REQUIRE_FALSE(output.ok());
  CHECK(output.error().message == "the input has 8 floats, expected 16");
  CHECK_FALSE(Evaluator::create(graph, 0).ok());
}

}  // namespace mpq::convert
