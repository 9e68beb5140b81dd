// Encoders quantised: how much of their function is kept, and what smoothing does.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "quantised_encoder.h"

namespace mpq::convert {
namespace {

std::string refusal(const EncoderShape& shape, const BitsMap& bits) {
  Graph graph = encoder_graph(shape, 31);
  const SequenceData data = calibration(shape);
  const auto report = quantize(&graph, bits, {.samples = {}, .count = 0, .sequences = &data}, {});
  if (!report.ok()) return report.error().message;
  const auto lowered = lower(graph, {});
  return lowered.ok() ? "" : lowered.error().message;
}

const Node& node_of(const Graph& graph, const std::string& name) {
  const auto node = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                 [&](const Node& n) { return n.name == name; });
  REQUIRE_MESSAGE(node != graph.nodes.end(), name);
  return *node;
}

const std::vector<float>& constant(const Graph& graph, const Node& node, size_t input) {
  return graph.values[node.inputs[input]].data;
}

}  // namespace

TEST_CASE("quantize of sequences: 8 bits keep the function, on texts it has not seen") {
  for (const float outlier : {1.0F, 8.0F})
    for (const double equalise : {0.0, 0.5}) {
      const EncoderShape shape{.head = Head::kMean, .outlier = outlier};
      const Graph real = encoder_graph(shape, 33);
      const Quantised q = quantised(shape, real, bits_of(real, 8, 8), {.equalise = equalise});
      CHECK(q.report.output_sqnr > 22.0);
      CHECK(q.report.cosine > 0.99);
      CHECK(decibels(outputs(real, fresh(shape)), outputs(q.graph, fresh(shape))) > 22.0);
      const SequenceData data = calibration(shape);
      CHECK(q.report.output_sqnr ==
            doctest::Approx(decibels(outputs(real, data), outputs(q.graph, data))).epsilon(0.02));
    }
}

TEST_CASE("quantize of sequences: smoothing helps where channels are large") {
  const EncoderShape shape{.head = Head::kClassifier, .outlier = 8.0F};
  double without = 0.0, with = 0.0;
  for (const uint32_t seed : {34U, 35U, 36U}) {
    const Graph real = encoder_graph(shape, seed);
    for (const double equalise : {0.0, 0.5})
      (equalise > 0.0 ? with : without) +=
          quantised(shape, real, bits_of(real, 8, 4), {.equalise = equalise}).report.output_sqnr;
  }
  CHECK(with > without + 3.0);  // dB, of three networks
}

TEST_CASE("quantize of sequences: smoothing leaves the function as it is") {
  const EncoderShape shape{.outlier = 8.0F};
  const Graph real = encoder_graph(shape, 37);
  PtqOptions options;
  options.correction = OutputCorrection::kNone;
  options.rounding = WeightRounding::kNearest;
  const Quantised q = quantised(shape, real, bits_of(real, 8, 8), options);
  const auto width = static_cast<size_t>(shape.width);
  // Weights are those of the float network times the factors, within a step of their scale.
  const auto weights_are = [&](const std::string& layer, const auto& factor_of) {
    const Node& now = node_of(q.graph, layer);
    const std::vector<float>& before = constant(real, node_of(real, layer), 1);
    const std::vector<float> after = real_weights(q.graph, now);
    size_t wrong = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      const size_t row = i / width, column = i % width;
      const double meant = double{before[i]} * factor_of(row, column);
      if (!(std::abs(meant - double{after[i]}) <= double{now.weight_quant->spec.scale[row]}))
        ++wrong;
    }
    CHECK(wrong == 0);
  };
  for (const std::string norm : {"embeddings.norm", "layer.0.attention.norm"}) {
    CAPTURE(norm);
    const Node &first = node_of(q.graph, norm), &second = node_of(q.graph, norm + ".smooth");
    std::vector<double> factor;
    for (size_t c = 0; c < width; ++c) {
      factor.push_back(double{constant(q.graph, first, 1)[c]} /
                       double{constant(q.graph, second, 1)[c]});
      CHECK(constant(q.graph, first, 2)[c] ==
            doctest::Approx(constant(q.graph, second, 2)[c] * factor[c]).epsilon(1e-5));
      CHECK(constant(q.graph, first, 1)[c] == constant(real, node_of(real, norm), 1)[c]);
    }
    CHECK(factor[1] > 2.0 * factor[0]);  // a large channel is divided more
    const auto by_column = [&](size_t, size_t column) { return factor[column]; };
    if (norm == "embeddings.norm") {
      for (const char* part : {"query", "key"})
        weights_are(std::string("layer.0.") + part, by_column);
      // The rows of values are divided too, and the columns of the projection multiplied.
      std::vector<double> row;
      for (size_t c = 0; c < width; ++c)
        row.push_back(double{constant(real, node_of(real, "layer.0.value"), 2)[c]} /
                      double{constant(q.graph, node_of(q.graph, "layer.0.value"), 2)[c]});
      weights_are("layer.0.value", [&](size_t o, size_t k) { return factor[k] / row[o]; });
      weights_are("layer.0.projection", [&](size_t, size_t k) { return row[k]; });
    } else {
      weights_are("layer.0.up", by_column);
    }
  }
}

TEST_CASE("quantize of sequences: refusals name the culprit and leave the graph alone") {
  const EncoderShape shape{.layers = 1};
  const Graph real = encoder_graph(shape, 41);
  CHECK(mentions(refusal(shape, {{"layer.0.qury", {8, 8}}}),
                 "no conv or linear node 'layer.0.qury'"));
  CHECK(mentions(refusal(shape, {{"layer.0.query", {3, 8}}}), "layer.0.query: 3 bits"));
  CHECK(mentions(refusal(shape, {{"layer.0.key", {4, 8}}}),
                 "layer.0.key has 4/8 bits, but layer.0.query 8/8; query, key and value need"));
  Graph graph = real;
  const auto none = quantize(&graph, {}, {}, {});
  REQUIRE(!none.ok());
  CHECK(mentions(none.error().message, "no sequences"));
  const SequenceData long_text = random_sequences(shape, {13}, 1);
  const auto too_long =
      quantize(&graph, {}, {.samples = {}, .count = 0, .sequences = &long_text}, {});
  REQUIRE(!too_long.ok());
  CHECK(mentions(too_long.error().message, "number 0 has 13 tokens"));
  const auto lowered = lower(graph, {});
  REQUIRE(!lowered.ok());
  CHECK(mentions(lowered.error().message, "layer.0.attention: input 0 is not quantised"));
  CHECK(print(graph) == print(real));

  for (const float number :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Graph broken = real;
    for (Value& value : broken.values)
      if (value.name == "layer.0.down.weight") value.data[30] = number;
    const SequenceData data = calibration(shape);
    const auto report = quantize(&broken, {}, {.samples = {}, .count = 0, .sequences = &data}, {});
    REQUIRE(!report.ok());
    CHECK(mentions(report.error().message, "layer.0.down (linear): 'layer.0.down.weight' is "));
    CHECK(mentions(report.error().message, " at 30"));
  }
}

TEST_CASE("quantize of sequences: the same input gives the same bits") {
  const EncoderShape shape{.outlier = 5.0F};
  const Graph real = encoder_graph(shape, 42);
  const Quantised a = quantised(shape, real, bits_of(real, 4, 8)),
                  b = quantised(shape, real, bits_of(real, 4, 8));
  REQUIRE(a.lowered.model.tensors.size() == b.lowered.model.tensors.size());
  for (size_t i = 0; i < a.lowered.model.tensors.size(); ++i) {
    const auto x = a.lowered.model.tensors[i].data, y = b.lowered.model.tensors[i].data;
    CHECK(std::equal(x.begin(), x.end(), y.begin(), y.end()));
  }
}

}  // namespace mpq::convert
