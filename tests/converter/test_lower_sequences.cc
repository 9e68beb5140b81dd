// Encoders quantised and lowered, against their graphs.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "converter/lower.h"
#include "converter/passes/quantize.h"
#include "converter/precision/groups.h"
#include "encoder_graph.h"
#include "format/validate.h"
#include "sequence_agreement.h"

namespace mpq::convert {
namespace {

using Head = EncoderShape::Head;

struct Quantised {
  Graph graph;
  PtqReport report;
  LoweredModel lowered;
};

SequenceData calibration(const EncoderShape& shape) {
  return random_sequences(shape, {12, 3, 7, 12, 5, 9, 2, 11, 12, 6, 8, 10, 4, 12, 12, 7}, 21);
}
SequenceData fresh(const EncoderShape& shape) {
  return random_sequences(shape, {9, 1, 12, 5, 12}, 22);
}

Quantised quantised(const EncoderShape& shape, const Graph& real, const BitsMap& bits,
                    const PtqOptions& options = {}) {
  Quantised q{.graph = real, .report = {}, .lowered = {}};
  const SequenceData data = calibration(shape);
  const CalibrationData samples{.samples = {}, .count = 0, .sequences = &data};
  auto report = quantize(&q.graph, bits, samples, options);
  REQUIRE_MESSAGE(report.ok(), report.error().message);
  q.report = *std::move(report);
  auto lowered = lower(q.graph, {});
  REQUIRE_MESSAGE(lowered.ok(), lowered.error().message);
  q.lowered = *std::move(lowered);
  return q;
}

BitsMap bits_of(const Graph& graph, int weight, int activation) {
  BitsMap bits;
  for (const Node& node : graph.nodes)
    if (std::holds_alternative<Linear>(node.op)) bits[node.name] = {weight, activation};
  return bits;
}

std::vector<float> outputs(const Graph& graph, const SequenceData& data) {
  const auto rows = evaluate_sequences(graph, data);
  REQUIRE(rows.ok());
  return *rows;
}

double decibels(const std::vector<float>& real, const std::vector<float>& other) {
  REQUIRE(real.size() == other.size());
  double signal = 0.0, noise = 1e-30;
  for (size_t i = 0; i < real.size(); ++i) {
    signal += double{real[i]} * double{real[i]};
    noise += (double{real[i]} - double{other[i]}) * (double{real[i]} - double{other[i]});
  }
  return 10.0 * std::log10(signal / noise);
}

// The lowered model against its graph on sequences that it has not seen.
SequenceAgreement check_agrees(const EncoderShape& shape, const Quantised& q) {
  const Checked valid = format::validate(q.lowered.model);
  CHECK_MESSAGE(valid.ok(), (valid.ok() ? "" : valid.error().message));
  const SequenceAgreement a = compare_lowered(q.graph, q.lowered.model, fresh(shape));
  CHECK(a.codes > 1000);
  CHECK(a.unexplained == 0);
  CHECK(a.real_error <= 1e-5);
  CHECK(a.missed.size() == 0);
  for (const std::string& name : a.missed) MESSAGE(name);
  return a;
}

std::string refusal(const EncoderShape& shape, const BitsMap& bits) {
  Graph graph = encoder_graph(shape, 31);
  const SequenceData data = calibration(shape);
  const auto report = quantize(&graph, bits, {.samples = {}, .count = 0, .sequences = &data}, {});
  if (!report.ok()) return report.error().message;
  const auto lowered = lower(graph, {});
  return lowered.ok() ? "" : lowered.error().message;
}

bool mentions(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
  return false;
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

TEST_CASE("lower of sequences: every head at every precision means what its graph means") {
  for (const Head head : {Head::kHidden, Head::kAnswers, Head::kMean, Head::kClassifier})
    for (const auto& [weight, activation] : {std::pair{8, 8}, {4, 8}, {2, 8}, {4, 4}})
      for (const double equalise : {0.0, 0.5}) {
        CAPTURE(static_cast<int>(head));
        CAPTURE(weight);
        CAPTURE(activation);
        CAPTURE(equalise);
        const EncoderShape shape{.head = head, .outlier = 8.0F};
        const Graph real = encoder_graph(shape, 31);
        const Quantised q =
            quantised(shape, real, bits_of(real, weight, activation), {.equalise = equalise});
        const SequenceAgreement a = check_agrees(shape, q);
        // End to end, steps of attention's weights and ties add up, more so in large steps.
        CHECK(decibels(outputs(q.graph, fresh(shape)), a.output) > (activation == 8 ? 18.0 : 6.0));
      }
}

TEST_CASE("lower of sequences: a map with other bits in each layer") {
  const EncoderShape shape{.relative_bias = true, .head = Head::kClassifier, .outlier = 8.0F};
  const Graph real = encoder_graph(shape, 43);
  BitsMap bits = bits_of(real, 8, 8);
  for (const char* part : {"query", "key", "value"}) {
    bits[std::string("layer.0.") + part] = {4, 8};
    bits[std::string("layer.1.") + part] = {2, 4};
  }
  bits["layer.0.projection"] = {2, 4};
  bits["layer.0.up"] = {4, 4};
  bits["layer.1.down"] = {4, 2};
  const Quantised q = quantised(shape, real, bits);
  check_agrees(shape, q);
  for (const format::MapLayer& layer : q.lowered.model.map.layers) {
    const LayerBits& meant = bits.at(layer.part.empty() ? layer.node : layer.part);
    CHECK(layer.weight_bits == meant.weight);
    CHECK(layer.activation_bits == meant.activation);
  }
  CHECK(q.lowered.model.map.layers.size() == bits.size());
}

TEST_CASE("lower of sequences: an encoder of MPNet's kind with float words") {
  const EncoderShape shape{.first_position = 2,
                           .types = false,
                           .relative_bias = true,
                           .gelu_tanh = true,
                           .head = Head::kFirst};
  const Graph real = encoder_graph(shape, 32);
  for (const bool words : {true, false}) {
    const Quantised q = quantised(shape, real, bits_of(real, 4, 8), {.quantise_words = words});
    check_agrees(shape, q);
    const format::Node* embedding = format::embedding_of(q.lowered.model);
    REQUIRE(embedding != nullptr);
    CHECK(q.lowered.model.tensors[embedding->inputs[format::kWords]].dtype ==
          (words ? DType::kS8 : DType::kF32));
  }
}

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

TEST_CASE("lower of sequences: a smoothed normalisation is the second output of the first") {
  for (const Head head : {Head::kHidden, Head::kAnswers}) {  // answers: only codes are read
    const EncoderShape shape{.layers = 1, .head = head};
    const Graph real = encoder_graph(shape, 38);
    for (const double equalise : {0.0, 0.5}) {
      const Quantised q = quantised(shape, real, bits_of(real, 4, 8), {.equalise = equalise});
      size_t norms = 0;
      for (const format::Node& node : q.lowered.model.nodes) {
        const auto* const norm = std::get_if<format::LayerNormAttrs>(&node.attrs);
        if (norm == nullptr) continue;
        ++norms;
        CAPTURE(node.name);
        const bool last = node.name == "layer.0.output.norm" && head == Head::kHidden;
        CHECK(node.outputs.size() == (last ? 1 : 2));
        CHECK(node.inputs.size() == (equalise > 0.0 && !last ? 6 : 4));
        CHECK((norm->second_scale != 0.0F) == (equalise == 0.0 && !last));
      }
      CHECK(norms == 3);
    }
  }
}

TEST_CASE("lower of sequences: query, key and value are one layer with a map of three") {
  const EncoderShape shape{.layers = 1, .head = Head::kClassifier};
  const Graph real = encoder_graph(shape, 39);
  const auto selection = precision::Selection::of(real);
  REQUIRE(selection.ok());
  std::vector<std::vector<std::string>> groups;
  std::vector<bool> fixed;
  for (const precision::Group& group : selection->groups) {
    groups.emplace_back();
    fixed.push_back(group.fixed);
    for (const uint32_t layer : group.layers)
      groups.back().push_back(selection->layers[layer].name);
  }
  const std::vector<std::vector<std::string>> kGroups = {
      {"layer.0.query", "layer.0.key", "layer.0.value"},
      {"layer.0.projection"},
      {"layer.0.up"},
      {"layer.0.down"},
      {"pooler"},
      {"classifier"}};
  CHECK(groups == kGroups);
  CHECK(fixed == std::vector<bool>{false, false, false, false, true, true});

  Quantised q = quantised(shape, real, bits_of(real, 4, 4));
  check_agrees(shape, q);
  std::vector<std::string> parts;
  for (const format::MapLayer& layer : q.lowered.model.map.layers)
    if (layer.node == "layer.0.attention.qkv") {
      parts.push_back(layer.part + " " + std::to_string(layer.weight_bits) + "/" +
                      std::to_string(layer.activation_bits));
    }
  CHECK(parts ==
        std::vector<std::string>{"layer.0.query 4/4", "layer.0.key 4/4", "layer.0.value 4/4"});
  for (const format::Node& node : q.lowered.model.nodes)
    if (node.name == "layer.0.attention.qkv")
      CHECK(q.lowered.model.tensors[node.inputs[format::kWeights]].dtype == DType::kS4);

  // An importer's weights may have other bits: they are stored in the most.
  for (Node& node : q.graph.nodes)
    if (node.name == "layer.0.query") {
      for (int8_t& code : node.weight_quant->codes) code = std::clamp<int8_t>(code, -2, 1);
      node.weight_quant->spec.bits = 2;
      node.weight_quant->spec.lo = -2;
      node.weight_quant->spec.hi = 1;
    }
  auto mixed = lower(q.graph, {});
  REQUIRE(mixed.ok());
  q.lowered = *std::move(mixed);
  check_agrees(shape, q);
}

TEST_CASE("lower of sequences: the comparison notices changed numbers") {
  const EncoderShape shape{.layers = 1, .head = Head::kClassifier};
  const Graph real = encoder_graph(shape, 40);
  for (const char* name :
       {"embeddings.norm.second_gamma", "layer.0.attention.norm.second_beta",
        "layer.0.attention.score_scale", "layer.0.attention.value_scale",
        "layer.0.attention.qkv.bias", "layer.0.up.multiplier", "layer.0.down.bias"}) {
    CAPTURE(name);
    Quantised q = quantised(shape, real, bits_of(real, 4, 8));
    const auto tensor = std::find_if(q.lowered.model.tensors.begin(), q.lowered.model.tensors.end(),
                                     [&](const format::Tensor& t) { return t.name == name; });
    REQUIRE(tensor != q.lowered.model.tensors.end());
    for (auto& bytes : q.lowered.storage)
      if (bytes.data() == tensor->data.data())
        for (size_t i = 0; i < bytes.size() / sizeof(float); ++i)
          reinterpret_cast<float*>(bytes.data())[i] *= 1.1F;
    const SequenceAgreement a = compare_lowered(q.graph, q.lowered.model, fresh(shape));
    CHECK((a.unexplained > 0 || a.real_error > 1e-3));
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
