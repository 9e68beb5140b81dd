#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "converter/eval.h"
#include "converter/train/tape.h"
#include "gradient_check.h"
#include "graph_builder.h"

namespace mpq::convert::train {
namespace {

constexpr double kTolerance = 3e-3;

Conv conv3(uint32_t stride, uint32_t groups = 1) {
  return {.stride_h = stride,
          .stride_w = stride,
          .pad_top = 1,
          .pad_left = 1,
          .pad_bottom = 1,
          .pad_right = 1,
          .groups = groups};
}

SequenceData two_sequences() {
  SequenceData data;
  const std::vector<int32_t> a = {1, 4, 2, 1}, b = {3, 0};
  data.add(a, std::vector<int32_t>{0, 0, 1, 1});
  data.add(b, std::vector<int32_t>{1, 0});
  return data;
}

// Embedding, and what `body` makes of its rows of 6.
template <typename Body>
Graph encoder(const Body& body) {
  GraphBuilder b(3);
  b.graph.sequence_length = 5;
  const ValueId ids = b.input({1}), types = b.input({1});
  const ValueId rows =
      b.node(Embedding{.first_position = 1},
             {ids, types, b.random({5, 6}), b.random({6, 6}, 0.3F), b.random({2, 6}, 0.3F)});
  return b.finish(body(b, rows));
}

double encoder_error(const Graph& graph, GradientCheck check = {}) {
  const SequenceData data = two_sequences();
  check.sequences = &data;
  return worst_gradient_error(graph, check);
}

}  // namespace

TEST_CASE("tape: gradients of convolutions, with strides, padding, groups and dilation") {
  const Conv uneven{.stride_h = 2, .stride_w = 1, .pad_top = 1, .pad_left = 2, .pad_right = 1};
  const Conv dilated{.pad_top = 2,
                     .pad_left = 2,
                     .pad_bottom = 2,
                     .pad_right = 2,
                     .dilation_h = 2,
                     .dilation_w = 2,
                     .groups = 2};
  const struct {
    const char* name;
    Conv op;
    int64_t out, in, kernel;
  } kCases[] = {{"3x3", conv3(1), 5, 3, 3},         {"3x3 of stride 2", conv3(2), 16, 4, 3},
                {"1x1", Conv{}, 4, 6, 1},           {"1x1 of stride 2", {2, 2}, 4, 6, 1},
                {"uneven", uneven, 4, 2, 3},        {"groups, dilated", dilated, 6, 4, 3},
                {"depthwise", conv3(2, 8), 8, 8, 3}};
  for (const auto& c : kCases)
    for (const bool biased : {true, false}) {
      CAPTURE(c.name);
      GraphBuilder b;
      const ValueId x = b.input({1, c.in, 5, 6});
      std::vector<ValueId> inputs = {
          x, b.random({c.out, c.in / c.op.groups, c.kernel, c.kernel}, 0.4F)};
      if (biased) inputs.push_back(b.random({c.out}));
      CHECK(worst_gradient_error(b.finish(b.node(c.op, inputs))) < kTolerance);
    }
}

TEST_CASE("tape: convolutions in bfloat16 are near those in binary32, forward and backward") {
  for (const uint32_t groups : {1U, 4U}) {
    GraphBuilder b(21);
    const ValueId x = b.input({1, 16, 9, 7});
    const int64_t in = 16 / groups;
    const Graph graph = b.finish(
        b.node(conv3(2, groups), {x, b.random({32, in, 3, 3}, 0.3F), b.random({32}, 0.1F)}));
    std::vector<std::vector<float>> results[2];
    const std::vector<float> images = b.random_data(3 * 16 * 63);
    std::vector<float> dy;
    for (const bool bfloat16 : {false, true}) {
      auto tape = Tape::create(graph, {.batch = 3, .input_gradient = true, .bfloat16 = bfloat16});
      REQUIRE_MESSAGE(tape.ok(), tape.error().message);
      REQUIRE(tape->forward(images, false).ok());
      const std::span<const float> y = tape->data(tape->output());
      if (dy.empty()) dy = b.random_data(y.size());
      std::vector<std::vector<float>>& all = results[bfloat16 ? 1 : 0];
      all.emplace_back(y.begin(), y.end());
      const Tape::Seed seed{tape->output(), dy};
      REQUIRE(tape->backward({&seed, 1}).ok());
      for (const Parameter& parameter : tape->parameters()) {
        const std::span<const float> g = tape->gradient(parameter.value);
        all.emplace_back(g.begin(), g.end());
      }
      const std::span<const float> dx = tape->gradient(x);
      all.emplace_back(dx.begin(), dx.end());
    }
    REQUIRE(results[0].size() == 4);
    for (size_t i = 0; i < 4; ++i) {
      double error = 0.0, energy = 0.0;
      for (size_t k = 0; k < results[0][i].size(); ++k) {
        error += std::pow(results[0][i][k] - results[1][i][k], 2.0);
        energy += std::pow(results[0][i][k], 2.0);
      }
      CHECK(error < 1e-4 * energy);
      CHECK((error > 0.0 || i == 2));  // the bias' gradient may be exact
    }
  }
}

TEST_CASE("tape: linear layers in bfloat16 are near those in binary32, forward and backward") {
  const SequenceData data = two_sequences();
  std::vector<std::vector<float>> results[2];
  for (const bool bfloat16 : {false, true}) {
    // Its input has two readers: gradients are added.
    auto tape =
        Tape::create(encoder([](GraphBuilder& b, ValueId x) {
                       const ValueId y = b.node(Linear{}, {x, b.random({6, 6}), b.random({6})});
                       return b.node(Add{}, {b.node(Linear{}, {x, b.random({6, 6})}), y});
                     }),
                     {.bfloat16 = bfloat16});
    REQUIRE_MESSAGE(tape.ok(), tape.error().message);
    REQUIRE(tape->forward(data).ok());
    std::vector<std::vector<float>>& all = results[bfloat16 ? 1 : 0];
    const std::span<const float> y = tape->data(tape->output());
    all.emplace_back(y.begin(), y.end());
    const std::vector<float> dy = GraphBuilder(22).random_data(y.size());
    const Tape::Seed seed{tape->output(), dy};
    REQUIRE(tape->backward({&seed, 1}).ok());
    for (const Parameter& parameter : tape->parameters()) {
      const std::span<const float> g = tape->gradient(parameter.value);
      all.emplace_back(g.begin(), g.end());
    }
  }
  REQUIRE(results[0].size() == 7);
  for (size_t i = 0; i < 7; ++i) {
    double error = 0.0, energy = 0.0;
    for (size_t k = 0; k < results[0][i].size(); ++k) {
      error += std::pow(results[0][i][k] - results[1][i][k], 2.0);
      energy += std::pow(results[0][i][k], 2.0);
    }
    CHECK(energy > 0.0);
    CHECK(error < 1e-4 * energy);
    if (i == 0) CHECK(error > 0.0);
  }
}

TEST_CASE("tape: gradients of linear layers and a flatten of planes") {
  GraphBuilder b;
  const ValueId x = b.node(Flatten{}, {b.input({1, 3, 2, 2})});
  const ValueId h = b.node(Linear{}, {x, b.random({7, 12}, 0.3F), b.random({7})});
  CHECK(worst_gradient_error(b.finish(b.node(Linear{}, {h, b.random({4, 7})}))) < kTolerance);
}

TEST_CASE("tape: gradients of batch norm, by the batch and frozen") {
  for (const bool batch_moments : {true, false}) {
    CAPTURE(batch_moments);
    GraphBuilder b;
    const ValueId x = b.input({1, 4, 3, 3});
    const std::vector<float> variance = {0.5F, 2.0F, 1.0F, 0.3F};
    const ValueId y =
        b.node(BatchNorm{.epsilon = 1e-3F},
               {x, b.random({4}), b.random({4}), b.random({4}), b.constant({4}, variance)});
    CHECK(worst_gradient_error(b.finish(y), {.batch_moments = batch_moments}) < kTolerance);
  }
}

TEST_CASE("tape: batch norm keeps running moments") {
  GraphBuilder b;
  const ValueId x = b.input({1, 1, 1, 2});
  const ValueId mean = b.constant({1}, {1.0F}), variance = b.constant({1}, {2.0F});
  const Graph graph = b.finish(
      b.node(BatchNorm{}, {x, b.constant({1}, {1.0F}), b.constant({1}, {0.0F}), mean, variance}));
  auto tape = Tape::create(graph, {.batch = 2});
  REQUIRE(tape.ok());
  REQUIRE(tape->forward(std::vector<float>{1, 2, 3, 6}, false).ok());
  CHECK(tape->data(mean)[0] == 1.0F);
  REQUIRE(tape->forward(std::vector<float>{1, 2, 3, 6}, true).ok());
  CHECK(tape->data(mean)[0] == doctest::Approx(1.0 + 0.1 * (3.0 - 1.0)));
  CHECK(tape->data(variance)[0] == doctest::Approx(2.0 + 0.1 * (14.0 / 3.0 - 2.0)));
  CHECK(tape->graph().values[mean].data[0] == tape->data(mean)[0]);
}

TEST_CASE("tape: gradients of activation functions") {
  for (const Op& op : {Op(Relu{}), Op(Clip{.lo = -0.5F, .hi = 0.7F}), Op(Gelu{}),
                       Op(Gelu{.tanh = true}), Op(Tanh{})}) {
    CAPTURE(op_name(op));
    GraphBuilder b;
    // Clip's kinks lie where no number of this seed comes near.
    CHECK(worst_gradient_error(b.finish(b.node(op, {b.input({1, 3, 2, 2})})), {.width = 2e-3F}) <
          kTolerance);
  }
}

TEST_CASE("tape: gradients of pooling") {
  const MaxPool max{.kernel_h = 3,
                    .kernel_w = 3,
                    .stride_h = 2,
                    .stride_w = 2,
                    .pad_top = 1,
                    .pad_left = 1,
                    .pad_bottom = 1,
                    .pad_right = 1};
  const AvgPool mean{.kernel_h = 2, .kernel_w = 3, .stride_h = 1, .stride_w = 2};
  for (const Op& op : {Op(max), Op(mean), Op(AvgPool{})}) {
    CAPTURE(op_name(op));
    GraphBuilder b;
    CHECK(worst_gradient_error(b.finish(b.node(op, {b.input({1, 3, 6, 7})})), {.width = 1e-3F}) <
          kTolerance);
  }
}

TEST_CASE("tape: gradients of a residual block, whose values have several readers") {
  GraphBuilder b;
  const ValueId x = b.node(conv3(1), {b.input({1, 2, 4, 4}), b.random({4, 2, 3, 3}, 0.3F)});
  const ValueId branch = b.node(conv3(1), {b.node(Gelu{}, {x}), b.random({4, 4, 3, 3}, 0.2F)});
  const ValueId sum = b.node(Add{}, {branch, x});
  const ValueId twice = b.node(Add{}, {sum, sum});
  const ValueId y = b.node(Flatten{}, {b.node(AvgPool{}, {b.node(Add{}, {twice, x})})});
  CHECK(worst_gradient_error(b.finish(b.node(Linear{}, {y, b.random({3, 4})}))) < kTolerance);
}

TEST_CASE("tape: gradients of embedding, layer norm, attention and pooling of sequences") {
  const SequencePool kPools[] = {{false, false}, {true, false}, {true, true}};
  for (const SequencePool pool : kPools)
    CHECK(encoder_error(encoder([&](GraphBuilder& b, ValueId x) { return b.node(pool, {x}); })) <
          kTolerance);
  CHECK(encoder_error(encoder([](GraphBuilder& b, ValueId x) {
          return b.node(LayerNorm{.epsilon = 1e-3F}, {x, b.random({6}), b.random({6})});
        })) < kTolerance);
  for (const bool relative : {false, true})
    CHECK(encoder_error(encoder([&](GraphBuilder& b, ValueId x) {
            std::vector<ValueId> inputs;
            for (int i = 0; i < 3; ++i)
              inputs.push_back(b.node(Linear{}, {x, b.random({6, 6}, 0.4F)}));
            if (relative) inputs.push_back(b.random({2, 9}, 0.5F));
            const ValueId y = b.node(Attention{.heads = 2}, inputs);
            return b.node(Add{}, {y, x});
          })) < kTolerance);
}

TEST_CASE("tape: the check of gradients finds planted bugs") {
  GraphBuilder b;
  const ValueId weights = b.random({5, 3, 3, 3}, 0.4F);
  const Graph graph = b.finish(b.node(conv3(1), {b.input({1, 3, 5, 6}), weights}));
  // One tap of 135, five per cent too large; a tap that gets nothing.
  GradientCheck check;
  for (const float factor : {1.05F, 0.0F}) {
    check.after_backward = [&](Tape* tape) {
      const std::span<float> g = tape->gradient(weights);
      const auto largest = std::max_element(
          g.begin(), g.end(), [](float a, float c) { return std::abs(a) < std::abs(c); });
      *largest *= factor;
    };
    CHECK(worst_gradient_error(graph, check) > 2.0 * kTolerance);
  }
  // An operator that forgets a reader of its input.
  GraphBuilder r;
  const ValueId x = r.input({1, 2, 3, 3});
  const Graph twice = r.finish(r.node(Add{}, {x, x}));
  check.after_backward = [&](Tape* tape) {
    for (float& g : tape->gradient(x)) g *= 0.5F;
  };
  CHECK(worst_gradient_error(twice, check) > 2.0 * kTolerance);
}

TEST_CASE("tape: forward is what the interpreter computes") {
  GraphBuilder b;
  const ValueId x = b.input({1, 3, 9, 9});
  const ValueId stem =
      b.node(Relu{}, {b.node(conv3(2), {x, b.random({8, 3, 3, 3}, 0.3F), b.random({8})})});
  const QuantSpec u4{.bits = 4, .scale = {0.2F}, .zero_point = 3, .lo = 0, .hi = 15};
  const ValueId q = b.node(FakeQuant{u4}, {stem});
  const ValueId y = b.node(conv3(1), {q, b.random({8, 8, 3, 3}, 0.1F)});
  const QuantSpec s2{
      .bits = 2, .is_signed = true, .scale = std::vector<float>(8, 0.15F), .lo = -2, .hi = 1};
  b.graph.nodes.back().weight_quant.emplace();
  b.graph.nodes.back().weight_quant->spec = s2;
  b.graph.nodes.back().weight_quant->codes.resize(size_t{8} * 8 * 9);
  Graph graph = b.finish(b.node(
      Linear{}, {b.node(Flatten{}, {b.node(AvgPool{}, {y})}), b.random({4, 8}), b.random({4})}));
  auto tape = Tape::create(graph, {.batch = 2});
  REQUIRE_MESSAGE(tape.ok(), tape.error().message);
  const std::vector<float> image = b.random_data(3 * 9 * 9);
  std::vector<float> nhwc;
  for (int copy = 0; copy < 2; ++copy)
    for (size_t p = 0; p < 81; ++p)
      for (size_t c = 0; c < 3; ++c) nhwc.push_back(image[c * 81 + p]);
  REQUIRE(tape->forward(nhwc, false).ok());
  const Graph with_codes = tape->graph();
  CHECK(*std::max_element(with_codes.nodes[3].weight_quant->codes.begin(),
                          with_codes.nodes[3].weight_quant->codes.end()) == 1);
  auto evaluator = Evaluator::create(with_codes, 1);
  REQUIRE(evaluator.ok());
  const auto expected = evaluator->run(image);
  REQUIRE(expected.ok());
  for (size_t i = 0; i < 8; ++i)
    CHECK(tape->data(tape->output())[i] == doctest::Approx((*expected)[i % 4]).epsilon(1e-4));
}

TEST_CASE("tape: refusals name what is wrong") {
  GraphBuilder b;
  const Graph graph = b.finish(b.node(Tanh{}, {b.input({1, 2, 2, 2})}));
  CHECK(!Tape::create(graph, {.batch = 0}).ok());
  auto tape = Tape::create(graph, {.batch = 1, .input_gradient = true});
  REQUIRE(tape.ok());
  const Checked small = tape->forward(std::vector<float>(7), true);
  REQUIRE(!small.ok());
  CHECK(small.error().message.find("7 numbers, expected 8") != std::string::npos);
  std::vector<float> x(8, 1.0F);
  x[3] = NAN;
  REQUIRE(tape->forward(x, true).ok());
  CHECK(tape->first_not_finite() == "tanh0 (tanh)");
}

}  // namespace mpq::convert::train
