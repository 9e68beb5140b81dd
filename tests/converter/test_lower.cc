#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "converter/lower.h"
#include "format/bits.h"
#include "format/validate.h"
#include "graph_builder.h"
#include "integer_model.h"
#include "naive_eval.h"

namespace mpq::convert {
namespace {

FakeQuant grid(int bits, float scale, int32_t zero_point = 0) {
  QuantSpec spec;
  spec.bits = bits;
  spec.scale = {scale};
  spec.zero_point = zero_point;
  spec.hi = (1 << bits) - 1;
  return {spec};
}

// Integer weights from a fixed generator, on every Conv and Linear that has none.
void quantise_weights_of(Graph* graph, int bits, uint32_t seed = 3) {
  std::mt19937 rng(seed);
  for (Node& node : graph->nodes) {
    if (!std::holds_alternative<Conv>(node.op) && !std::holds_alternative<Linear>(node.op))
      continue;
    Value& w = graph->values[node.inputs[1]];
    WeightQuant q;
    q.spec.bits = bits;
    q.spec.is_signed = true;
    q.spec.lo = -(1 << (bits - 1));
    q.spec.hi = (1 << (bits - 1)) - 1;
    for (int64_t c = 0; c < w.shape[0]; ++c)
      q.spec.scale.push_back(0.01F + 0.001F * static_cast<float>(rng() % 50));
    const size_t k = w.data.size() / static_cast<size_t>(w.shape[0]);
    for (size_t i = 0; i < w.data.size(); ++i) {
      q.codes.push_back(static_cast<int8_t>(q.spec.lo + static_cast<int>(rng() % (1U << bits))));
      w.data[i] = static_cast<float>(q.codes[i]) * q.spec.scale[i / k];
    }
    node.weight_quant = std::move(q);
  }
}

LowerOptions float_input() {
  LowerOptions options;
  options.image_input = false;
  return options;
}

struct Agreement {
  size_t codes = 0, different = 0, unexplained = 0;
};

// Every FakeQuant output of the graph against the codes of the model. A difference is explained
// when it is one step and the real position is within 1e-3 of the middle between two codes.
Agreement compare(const Graph& graph, const format::Model& model, const std::vector<float>& input) {
  const auto real = naive_eval(graph, input);
  const auto codes = run_model(model, std::vector<double>(input.begin(), input.end()));
  Agreement result;
  for (const Node& node : graph.nodes) {
    const auto* quant = std::get_if<FakeQuant>(&node.op);
    if (quant == nullptr) continue;
    const auto found = codes.find(graph.values[node.output].name);
    REQUIRE_MESSAGE(found != codes.end(), graph.values[node.output].name);
    const double scale = quant->spec.scale[0];
    const int32_t shift = quant->spec.is_signed ? 1 << (quant->spec.bits - 1) : 0;
    const std::vector<double>& value = real.at(node.output);
    REQUIRE(found->second.size() == value.size());
    for (size_t i = 0; i < value.size(); ++i) {
      const double expected = std::nearbyint(value[i] / scale) + quant->spec.zero_point + shift;
      ++result.codes;
      if (found->second[i] == expected) continue;
      ++result.different;
      bool tie = false;
      if (real.at(node.inputs[0]).size() == value.size()) {
        const double position = real.at(node.inputs[0])[i] / scale;
        tie = std::abs(position - std::floor(position) - 0.5) < 1e-3;
      }
      if (!tie || std::abs(found->second[i] - expected) != 1.0) ++result.unexplained;
    }
  }
  return result;
}

void check_agrees(const Graph& graph, const LowerOptions& options,
                  const std::vector<float>& input) {
  const Result<LoweredModel> lowered = lower(graph, options);
  REQUIRE_MESSAGE(lowered.ok(), (lowered.ok() ? "" : lowered.error().message));
  const Checked valid = format::validate(lowered->model);
  CHECK_MESSAGE(valid.ok(), (valid.ok() ? "" : valid.error().message));
  const Agreement agreement = compare(graph, lowered->model, input);
  CHECK(agreement.codes > 0);
  CHECK(agreement.unexplained == 0);
  CHECK(agreement.different * 1000 <= agreement.codes);
}

// A bottleneck as PTQ leaves it: 4-bit inputs, an 8-bit stream, both from one sum.
Graph residual_block(uint32_t seed, int weight_bits) {
  GraphBuilder b(seed);
  const ValueId x = b.input({1, 5, 6, 7});
  const ValueId stream = b.node(grid(8, 0.02F, 120), {x});
  const ValueId conv1 =
      b.node(Conv{1, 1, 1, 1, 1, 1}, {stream, b.random({8, 5, 3, 3}), b.random({8})});
  const ValueId low = b.node(grid(4, 0.4F), {b.node(Relu{}, {conv1})});
  const ValueId conv2 = b.node(Conv{}, {low, b.random({5, 8, 1, 1}), b.random({5})});
  const ValueId sum = b.node(Relu{}, {b.node(Add{}, {conv2, stream})});
  const ValueId wide = b.node(grid(8, 0.05F), {sum});
  const ValueId narrow = b.node(grid(4, 0.7F), {sum});
  const ValueId conv3 =
      b.node(Conv{2, 2, 1, 1, 1, 1}, {narrow, b.random({6, 5, 3, 3}), b.random({6})});
  const ValueId conv4 = b.node(Conv{2, 2}, {wide, b.random({6, 5, 1, 1})});
  const ValueId skip = b.node(grid(8, 0.1F, 128), {conv4});
  const ValueId out = b.node(grid(8, 0.1F), {b.node(Relu{}, {b.node(Add{}, {conv3, skip})})});
  const ValueId pooled = b.node(Flatten{}, {b.node(AvgPool{}, {out})});
  const ValueId features = b.node(grid(8, 0.05F), {pooled});
  Graph graph = b.finish(b.node(Linear{}, {features, b.random({3, 6}), b.random({3})}));
  quantise_weights_of(&graph, weight_bits, seed);
  return graph;
}

}  // namespace

TEST_CASE("lower: a 1x1 convolution, computed by hand") {
  GraphBuilder b;
  const ValueId x = b.input({1, 2, 1, 1});
  const ValueId codes = b.node(grid(4, 0.5F), {x});
  const ValueId w = b.constant({2, 2, 1, 1}, {0.75F, -0.25F, 0.5F, 1.0F});
  const ValueId conv = b.node(Conv{}, {codes, w, b.constant({2}, {0.5F, -1.0F})});
  Graph graph = b.finish(b.node(grid(4, 0.25F), {b.node(Relu{}, {conv})}));
  WeightQuant q;
  q.spec = {4, true, {0.25F, 0.5F}, 0, -8, 7};
  q.codes = {3, -1, 1, 2};
  graph.nodes[1].weight_quant = q;

  const Result<LoweredModel> lowered = lower(graph, float_input());
  REQUIRE(lowered.ok());
  const format::Model& model = lowered->model;
  REQUIRE(model.nodes.size() == 2);
  CHECK(model.nodes[0].op() == format::OpCode::kQuantize);
  CHECK(model.nodes[1].op() == format::OpCode::kConv2d);
  CHECK(model.nodes[1].name == graph.nodes[1].name);
  // x = (1.6, 0.7): codes (3, 1). acc = 3*3 - 1 = 8 and 3 + 2 = 5. m = 0.25*0.5/0.25 = 0.5 and 1,
  // b = 0.5/0.25 = 2 and -4: v = 6 and 1.
  const auto y = run_model(model, {1.6, 0.7});
  CHECK(y.at(graph.values[graph.outputs[0]].name) == std::vector<double>{6, 1});
  const auto m = model.tensors[model.nodes[1].inputs[format::kMultiplier]].data;
  CHECK(reinterpret_cast<const float*>(m.data())[0] == 0.5F);
  CHECK(reinterpret_cast<const float*>(m.data())[1] == 1.0F);
  // Weights packed low bits first: 3, -1 -> 0xF3; 1, 2 -> 0x21.
  const auto bytes = model.tensors[model.nodes[1].inputs[format::kWeights]].data;
  REQUIRE(bytes.size() == 2);
  CHECK(bytes[0] == std::byte{0xF3});
  CHECK(bytes[1] == std::byte{0x21});
}

TEST_CASE("lower: residual blocks give the codes of their float meaning") {
  for (const int bits : {8, 4, 2})
    for (uint32_t seed = 1; seed <= 4; ++seed) {
      const Graph graph = residual_block(seed, bits);
      GraphBuilder data(seed + 100);
      check_agrees(graph, float_input(), data.random_data(5 * 6 * 7));
    }
}

TEST_CASE("lower: one sum feeds the stream and the next layer, once") {
  const Result<LoweredModel> lowered = lower(residual_block(1, 4), float_input());
  REQUIRE(lowered.ok());
  size_t two_outputs = 0, convs = 0;
  for (const format::Node& node : lowered->model.nodes) {
    convs += node.op() == format::OpCode::kConv2d ? 1 : 0;
    CHECK(node.op() != format::OpCode::kAdd);
    if (node.outputs.size() != 2) continue;
    ++two_outputs;
    CHECK(lowered->model.tensors[node.outputs[0]].dtype == DType::kU8);
    CHECK(lowered->model.tensors[node.outputs[1]].dtype == DType::kU4);
  }
  CHECK(convs == 4);
  CHECK(two_outputs == 1);
}

TEST_CASE("lower: a changed multiplier is noticed by the comparison") {
  const Graph graph = residual_block(2, 4);
  Result<LoweredModel> lowered = lower(graph, float_input());
  REQUIRE(lowered.ok());
  GraphBuilder data(9);
  const std::vector<float> input = data.random_data(5 * 6 * 7);
  CHECK(compare(graph, lowered->model, input).unexplained == 0);
  const format::Node& conv = lowered->model.nodes[1];
  REQUIRE(conv.op() == format::OpCode::kConv2d);
  for (auto& bytes : lowered->storage)
    if (bytes.data() == lowered->model.tensors[conv.inputs[format::kMultiplier]].data.data())
      for (size_t c = 0; c < 8; ++c) reinterpret_cast<float*>(bytes.data())[c] *= 1.05F;
  CHECK(compare(graph, lowered->model, input).unexplained > 0);
}

TEST_CASE("lower: zero points, padding and signed grids") {
  GraphBuilder b(5);
  const ValueId x = b.input({1, 3, 5, 5});
  FakeQuant symmetric = grid(8, 0.03F);  // int8 as ONNX writes it: -127..127 around 0
  symmetric.spec.is_signed = true;
  symmetric.spec.lo = -127;
  symmetric.spec.hi = 127;
  const ValueId codes = b.node(symmetric, {x});
  const ValueId conv =
      b.node(Conv{1, 1, 2, 1, 0, 1, 2, 1, 1}, {codes, b.random({4, 3, 2, 3}), b.random({4})});
  const ValueId signed4 = b.node(grid(4, 0.5F, 7), {conv});
  const ValueId grouped =
      b.node(Conv{1, 1, 1, 1, 1, 1, 1, 1, 2}, {signed4, b.random({6, 2, 3, 3})});
  Graph graph = b.finish(b.node(grid(2, 1.0F, 1), {grouped}));
  quantise_weights_of(&graph, 4);
  check_agrees(graph, float_input(), b.random_data(75));
  const Result<LoweredModel> lowered = lower(graph, float_input());
  REQUIRE(lowered.ok());
  CHECK(lowered->model.tensors[lowered->model.nodes[0].outputs[0]].quant.zero_point == 128);
}

TEST_CASE("lower: clip narrows the codes of both outputs") {
  GraphBuilder b(6);
  const ValueId x = b.input({1, 2, 4, 4});
  const ValueId codes = b.node(grid(8, 0.02F, 128), {x});
  const ValueId clip = b.node(
      Clip{0.0F, 6.0F}, {b.node(Conv{}, {codes, b.random({3, 2, 1, 1}), b.random({3}, 3.0F)})});
  const ValueId wide = b.node(grid(8, 0.05F, 3), {clip});
  const ValueId narrow = b.node(grid(4, 0.5F, 2), {clip});
  const ValueId next = b.node(
      Add{}, {wide, b.node(grid(8, 0.1F), {b.node(Conv{}, {narrow, b.random({3, 3, 1, 1})})})});
  Graph graph = b.finish(b.node(grid(8, 0.1F, 10), {next}));
  quantise_weights_of(&graph, 8);
  check_agrees(graph, float_input(), b.random_data(32));
  const Result<LoweredModel> lowered = lower(graph, float_input());
  REQUIRE(lowered.ok());
  const auto& attrs = std::get<format::Conv2dAttrs>(lowered->model.nodes[1].attrs).requant;
  CHECK(attrs.lo == 3);    // real 0
  CHECK(attrs.hi == 123);  // 6 / 0.05 + 3
  CHECK(attrs.second_lo == 2);
  CHECK(attrs.second_hi == 14);  // 6 / 0.5 + 2
}

TEST_CASE("lower: max pool before or behind the rounding is the same") {
  GraphBuilder b(7);
  const ValueId x = b.input({1, 2, 6, 6});
  const ValueId codes = b.node(grid(8, 0.02F, 128), {x});
  const ValueId relu = b.node(Relu{}, {b.node(Conv{}, {codes, b.random({3, 2, 1, 1})})});
  const ValueId pool = b.node(MaxPool{3, 3, 2, 2, 1, 1, 1, 1}, {relu});
  const ValueId narrow = b.node(grid(4, 0.3F), {pool});
  const ValueId wide = b.node(grid(8, 0.02F), {pool});
  const ValueId conv = b.node(Conv{}, {narrow, b.random({3, 3, 1, 1})});
  Graph graph = b.finish(b.node(grid(8, 0.1F, 100), {b.node(Add{}, {wide, conv})}));
  quantise_weights_of(&graph, 4);
  check_agrees(graph, float_input(), b.random_data(72));
}

TEST_CASE("lower: codes are added, requantised and pooled") {
  GraphBuilder b(8);
  const ValueId x = b.input({1, 3, 4, 6});
  const ValueId a = b.node(grid(8, 0.02F, 128), {x});
  const ValueId coarse = b.node(grid(4, 0.3F, 8), {a});
  const ValueId sum = b.node(Add{}, {a, coarse});
  const ValueId wide = b.node(grid(8, 0.05F, 90), {sum});
  const ValueId narrow = b.node(grid(2, 1.1F, 1), {sum});
  const ValueId pooled = b.node(grid(8, 0.02F, 128), {b.node(AvgPool{2, 3, 2, 3}, {wide})});
  const ValueId conv = b.node(Conv{}, {narrow, b.random({3, 3, 1, 1})});
  const ValueId other = b.node(grid(8, 0.05F, 128), {conv});
  b.graph.outputs = {pooled, other};
  Graph graph = b.graph;
  quantise_weights_of(&graph, 2);
  check_agrees(graph, float_input(), b.random_data(72));
}

TEST_CASE("lower: pixels go through a table of the preprocessing in binary32") {
  GraphBuilder b(9);
  const ValueId x = b.input({1, 3, 2, 2});
  const ValueId codes = b.node(grid(8, 0.0187F, 113), {x});
  Graph graph =
      b.finish(b.node(grid(8, 0.05F, 128), {b.node(Conv{}, {codes, b.random({2, 3, 1, 1})})}));
  quantise_weights_of(&graph, 8);
  LowerOptions options;
  options.image.mean = {0.485F, 0.456F, 0.406F};
  options.image.stddev = {0.229F, 0.224F, 0.225F};
  const Result<LoweredModel> lowered = lower(graph, options);
  REQUIRE(lowered.ok());
  const format::Model& model = lowered->model;
  CHECK(model.tensors[model.inputs[0]].dtype == DType::kU8);
  CHECK(model.tensors[model.inputs[0]].shape == Shape{1, 2, 2, 3});
  const auto table = model.tensors[model.nodes[0].inputs[1]].data;
  REQUIRE(table.size() == 768);
  // In double, the position is far enough from ties for every one of the 768 entries but ties.
  for (size_t c = 0; c < 3; ++c)
    for (int p = 0; p < 256; ++p) {
      const double real =
          (p / 255.0 - double{options.image.mean[c]}) / double{options.image.stddev[c]};
      const double position = std::clamp(real / double{0.0187F} + 113, 0.0, 255.0);
      const double code = std::to_integer<int>(table[c * 256 + static_cast<size_t>(p)]);
      CHECK(std::abs(code - position) <= 0.5 + 1e-4);
    }
}

TEST_CASE("lower: accumulators come out as they are") {
  GraphBuilder b(10);
  const ValueId x = b.input({1, 4});
  const ValueId codes = b.node(grid(4, 0.5F, 8), {x});
  Graph graph =
      b.finish(b.node(Linear{}, {codes, b.random({2, 4}), b.constant({2}, {0.5F, -0.25F})}));
  WeightQuant q;
  q.spec = {4, true, {0.25F}, 0, -8, 7};
  q.codes = {1, 2, -3, 4, -8, 7, 0, 1};
  graph.nodes[1].weight_quant = q;
  LowerOptions options = float_input();
  options.accumulator_output = true;
  const Result<LoweredModel> lowered = lower(graph, options);
  REQUIRE(lowered.ok());
  // Codes 10, 7, 9, 8 less 8: 2, -1, 1, 0. Sums 2 - 2 - 3 = -3 and -16 - 7 = -23; biases in units
  // of 0.25 * 0.5: 4 and -2.
  const auto y = run_model(lowered->model, {1.0, -0.5, 0.5, 0.0});
  CHECK(y.at(graph.values[graph.outputs[0]].name) == std::vector<double>{1, -25});

  options.accumulator_output = false;  // and as numbers: times 0.125, plus the bias
  const Result<LoweredModel> real = lower(graph, options);
  REQUIRE(real.ok());
  const auto logits = run_model(real->model, {1.0, -0.5, 0.5, 0.0});
  CHECK(logits.at(graph.values[graph.outputs[0]].name) == std::vector<double>{0.125, -3.125});
}

TEST_CASE("lower: what cannot be expressed is named with a reason and a remedy") {
  const auto message = [](const Graph& graph) {
    const Result<LoweredModel> lowered = lower(graph, float_input());
    return lowered.ok() ? std::string("no error") : lowered.error().message;
  };
  const auto mentions = [](const std::string& text, std::initializer_list<const char*> words) {
    for (const char* word : words)
      CHECK_MESSAGE(text.find(word) != std::string::npos, text, " lacks ", word);
  };
  const auto conv_graph = [](FakeQuant in, bool quantised_input, bool weights) {
    GraphBuilder b;
    ValueId x = b.input({1, 2, 2, 2});
    if (quantised_input) x = b.node(in, {x});
    Graph graph = b.finish(b.node(grid(8, 1.0F), {b.node(Conv{}, {x, b.random({2, 2, 1, 1})})}));
    if (weights) quantise_weights_of(&graph, 4);
    return graph;
  };
  mentions(message(conv_graph(grid(8, 1.0F), false, true)),
           {"conv1", "not quantised", "FakeQuant"});
  mentions(message(conv_graph(grid(8, 1.0F), true, false)), {"conv2", "weights", "quantize"});
  FakeQuant wrong = grid(8, 1.0F);
  wrong.spec.bits = 3;
  mentions(message(conv_graph(wrong, true, true)), {"fake_quant0", "3", "{2,4,8}"});
  wrong = grid(8, 1.0F);
  wrong.spec.scale = {1.0F, 2.0F};
  mentions(message(conv_graph(wrong, true, true)), {"fake_quant0", "2 scales", "per-tensor"});
  wrong = grid(8, -1.0F);
  mentions(message(conv_graph(wrong, true, true)), {"fake_quant0", "scale", "positive"});
  wrong = grid(4, 1.0F, 17);
  mentions(message(conv_graph(wrong, true, true)), {"fake_quant0", "zero point 17", "0..15"});
  Graph codes = conv_graph(grid(8, 1.0F), true, true);
  codes.nodes[1].weight_quant->codes[2] = 9;
  mentions(message(codes), {"conv2", "code 9", "s4"});

  {
    GraphBuilder b;
    const ValueId x = b.node(grid(8, 1.0F), {b.input({1, 2, 2, 2})});
    const ValueId conv = b.node(Conv{}, {x, b.random({2, 2, 1, 1})});
    const ValueId other = b.node(Conv{}, {x, b.random({2, 2, 1, 1})});
    Graph graph = b.finish(b.node(grid(8, 1.0F), {b.node(Add{}, {conv, other})}));
    quantise_weights_of(&graph, 4);
    mentions(message(graph), {"add", "neither input", "FakeQuant"});
  }
  {
    GraphBuilder b;
    const ValueId x = b.node(grid(8, 1.0F), {b.input({1, 2, 2, 2})});
    const ValueId conv = b.node(Conv{}, {x, b.random({2, 2, 1, 1})});
    b.graph.outputs = {b.node(grid(8, 1.0F), {conv}), b.node(grid(4, 1.0F), {conv}),
                       b.node(grid(2, 1.0F), {conv})};
    Graph graph = b.graph;
    quantise_weights_of(&graph, 4);
    mentions(message(graph), {"conv", "3 ways", "precision"});
  }
  {
    GraphBuilder b;
    const ValueId x = b.node(grid(8, 1.0F), {b.input({1, 2, 2, 2})});
    const ValueId flat = b.node(Flatten{}, {x});
    Graph graph = b.finish(b.node(Linear{}, {flat, b.random({2, 8})}));
    quantise_weights_of(&graph, 4);
    mentions(message(graph), {"flatten", "1x2x2x2", "convolution"});
  }
}

}  // namespace mpq::convert
