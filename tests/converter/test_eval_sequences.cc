// The evaluation of sequence graphs against plain loops, node by node.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>

#include "converter/eval_sequences.h"
#include "encoder_graph.h"
#include "naive_sequences.h"

namespace mpq::convert {
namespace {

// Largest difference of a node's numbers, over its largest one: float sums of a few dozen terms,
// through up to twenty nodes.
constexpr double kBound = 2e-5;

using Head = EncoderShape::Head;

// Evaluates `graph` on all sequences at once and compares every node with what plain loops give for
// `meant` and each sequence alone.
double difference(const Graph& graph, const Graph& meant, const SequenceData& data) {
  std::map<std::string, std::vector<float>> seen;
  const auto output = evaluate_sequences(graph, data, [&](const Node& node, auto rows) {
    seen[node.name].assign(rows.begin(), rows.end());
  });
  REQUIRE_MESSAGE(output.ok(), output.error().message);
  CHECK(*output == seen.at(graph.nodes.back().name));
  double worst = 0.0;
  std::map<std::string, size_t> done;
  for (size_t s = 0; s < data.count(); ++s) {
    const size_t first = data.starts[s], length = data.starts[s + 1] - first;
    const std::span<const int32_t> types(data.types);
    const auto values = naive_sequence(meant, std::span(data.ids).subspan(first, length),
                                       types.empty() ? types : types.subspan(first, length));
    for (const Node& node : meant.nodes) {
      const std::vector<double>& want = values.at(node.output);
      const std::vector<float>& got = seen.at(node.name);
      size_t& at = done[node.name];
      if (got.size() - at < want.size()) return INFINITY;
      double largest = 1e-6, error = 0.0;
      for (const double v : want) {
        error = std::max(error, std::isnan(got[at]) ? INFINITY : std::abs(v - double{got[at]}));
        largest = std::max(largest, std::abs(v));
        ++at;
      }
      worst = std::max(worst, error / largest);
    }
  }
  for (const auto& [name, count] : done)
    if (count != seen.at(name).size()) return INFINITY;
  return worst;
}

double difference(const Graph& graph, const SequenceData& data) {
  return difference(graph, graph, data);
}

template <typename Kind>
Kind& first_op(Graph* graph) {
  for (Node& node : graph->nodes)
    if (auto* op = std::get_if<Kind>(&node.op)) return *op;
  throw std::logic_error("no such operator");
}

std::string refusal(const Graph& graph, const SequenceData& data) {
  const auto output = evaluate_sequences(graph, data);
  return output.ok() ? "" : output.error().message;
}

bool mentions(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
  return false;
}

}  // namespace

TEST_CASE("eval of sequences: an encoder of BERT's kind equals plain loops at every node") {
  for (const Head head : {Head::kHidden, Head::kAnswers, Head::kMean, Head::kClassifier}) {
    const EncoderShape shape{.head = head};
    const SequenceData data = random_sequences(shape, {5, 1, 12, 3, 12, 2}, 7);
    CHECK(difference(encoder_graph(shape, 1), data) <= kBound);
  }
}

TEST_CASE("eval of sequences: an encoder of MPNet's kind equals plain loops at every node") {
  const EncoderShape shape{.first_position = 2,
                           .types = false,
                           .relative_bias = true,
                           .gelu_tanh = true,
                           .head = Head::kFirst};
  CHECK(difference(encoder_graph(shape, 2), random_sequences(shape, {12, 4, 1, 9}, 8)) <= kBound);
}

TEST_CASE("eval of sequences: many tokens and heads that fill no vector") {
  const EncoderShape shape{.width = 44, .wide = 130, .heads = 4, .length = 70, .layers = 1};
  CHECK(difference(encoder_graph(shape, 3), random_sequences(shape, {70, 33, 64, 1}, 9)) <= kBound);
}

TEST_CASE("eval of sequences: without types they are 0") {
  const EncoderShape shape{.layers = 1};
  SequenceData data = random_sequences(shape, {6, 3}, 10);
  data.types.clear();
  CHECK(difference(encoder_graph(shape, 4), data) <= kBound);
}

TEST_CASE("eval of sequences: large scores stay numbers") {
  const EncoderShape shape{.layers = 1};
  Graph graph = encoder_graph(shape, 5);
  for (Value& value : graph.values)
    if (value.name == "layer.0.query.weight")
      for (float& w : value.data) w *= 300.0F;
  const auto rows = evaluate_sequences(graph, random_sequences(shape, {12, 7}, 11));
  REQUIRE(rows.ok());
  CHECK(std::all_of(rows->begin(), rows->end(), [](float v) { return std::isfinite(v); }));
}

TEST_CASE("eval of sequences: codes of words and weights, and grids of parts of a row") {
  GraphBuilder b(6);
  b.graph.sequence_length = 4;
  const ValueId ids = b.graph.add_value({.name = "ids", .shape = {1}});
  b.graph.inputs = {ids};
  const ValueId words = b.constant({3, 4}, std::vector<float>(12, 9.0F));  // only codes may count
  const ValueId x = b.node(Embedding{}, {ids, kNoValue, words, b.random({4, 4})});
  b.graph.nodes.back().weight_quant =
      WeightQuant{.spec = {.is_signed = true, .scale = {0.5F, 0.25F, 2.0F}, .lo = -128, .hi = 127},
                  .codes = {1, -2, 3, 4, 5, 6, -7, 8, 1, 0, -1, 2}};
  const QuantSpec parts{
      .bits = 8, .is_signed = true, .scale = {0.125F, 0.03F}, .lo = -127, .hi = 127};
  const QuantSpec low{.bits = 2, .scale = {0.75F}, .zero_point = 1, .lo = 0, .hi = 3};
  const ValueId q = b.node(FakeQuant{low}, {b.node(FakeQuant{parts}, {x})});
  const ValueId y = b.node(Linear{}, {q, b.constant({2, 4}, std::vector<float>(8, 9.0F))});
  b.graph.nodes.back().weight_quant =
      WeightQuant{.spec = {.bits = 4, .is_signed = true, .scale = {0.1F}, .lo = -8, .hi = 7},
                  .codes = {1, -8, 7, 0, 2, 3, -4, 5}};
  const Graph graph = b.finish(b.node(Clip{.lo = -0.4F, .hi = 0.4F}, {y}));
  SequenceData data;
  for (const std::vector<int32_t>& sequence : {std::vector<int32_t>{0, 1, 2}, {2}, {1, 1, 0, 2}})
    data.add(sequence, {});
  CHECK(difference(graph, data) <= kBound);
}

TEST_CASE("eval of sequences: the comparison notices every small mistake") {
  const EncoderShape shape{
      .first_position = 1, .layers = 1, .relative_bias = true, .head = Head::kMean};
  const Graph meant = encoder_graph(shape, 12);
  const SequenceData data = random_sequences(shape, {3, 7, 2}, 13);
  REQUIRE(difference(meant, data) <= kBound);
  const std::pair<const char*, std::function<void(Graph*)>> kMistakes[] = {
      {"positions off by one", [](Graph* g) { first_op<Embedding>(g).first_position = 0; }},
      {"epsilon", [](Graph* g) { first_op<LayerNorm>(g).epsilon = 1e-3F; }},
      {"one head for two",
       [](Graph* g) {
         Node& node = *std::find_if(g->nodes.begin(), g->nodes.end(), [](const Node& n) {
           return std::holds_alternative<Attention>(n.op);
         });
         node.inputs.pop_back();  // the bias of two heads
         std::get<Attention>(node.op).heads = 1;
       }},
      {"bias of query - key",
       [](Graph* g) {
         for (const Node& node : g->nodes)
           if (std::holds_alternative<Attention>(node.op)) {
             Value& bias = g->values[node.inputs[3]];
             const auto row = static_cast<ptrdiff_t>(bias.shape[1]);
             std::reverse(bias.data.begin(), bias.data.begin() + row);
             std::reverse(bias.data.begin() + row, bias.data.end());
           }
       }},
      {"GELU by tanh", [](Graph* g) { first_op<Gelu>(g).tanh = true; }},
      {"first token for the mean", [](Graph* g) { first_op<SequencePool>(g).mean = false; }},
      {"no normalisation", [](Graph* g) { first_op<SequencePool>(g).normalise = false; }},
  };
  for (const auto& [name, plant] : kMistakes) {
    const std::string mistake = name;
    CAPTURE(mistake);
    Graph wrong = meant;
    plant(&wrong);
    CHECK(difference(wrong, meant, data) > 5 * kBound);
  }
}

TEST_CASE("eval of sequences: what does not fit the network is refused by number") {
  const EncoderShape shape{.layers = 1};
  const Graph graph = encoder_graph(shape, 14);
  const auto of = [](std::vector<int32_t> ids, std::vector<int32_t> types = {}) {
    SequenceData data;
    data.add(ids, types);
    return data;
  };
  CHECK(refusal(graph, of({0, 39}, {0, 1})).empty());
  CHECK(mentions(refusal(graph, of({0, 40})), "id 40 of token 1"));
  CHECK(mentions(refusal(graph, of({-1, 4})), "id -1 of token 0"));
  CHECK(mentions(refusal(graph, of({1, 2}, {0, 2})), "type 2 of token 1"));
  CHECK(mentions(refusal(graph, of({1, 2}, {0})), "2 ids and 1 types for 2 tokens"));
  CHECK(mentions(refusal(graph, of(std::vector<int32_t>(13, 1))),
                 "number 0 has 13 tokens, the network takes 1 to 12"));
  CHECK(mentions(refusal(graph, of({})), "number 0 has 0 tokens"));
  CHECK(mentions(refusal(graph, SequenceData{}), "there are none"));

  GraphBuilder images;  // an operator of images within
  images.graph.sequence_length = 4;
  const ValueId ids = images.graph.add_value({.name = "ids", .shape = {1}});
  images.graph.inputs = {ids};
  const ValueId x =
      images.node(Embedding{}, {ids, kNoValue, images.random({3, 4}), images.random({4, 4})});
  const ValueId y = images.node(BatchNorm{}, {x, images.random({4}), images.random({4}),
                                              images.random({4}), images.random({4})});
  CHECK(mentions(refusal(images.finish(y), of({1})), "batch_norm"));
}

}  // namespace mpq::convert
