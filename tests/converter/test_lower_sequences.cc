// Encoders quantised and lowered, against their graphs.
#include <doctest/doctest.h>

#include <algorithm>

#include "converter/precision/groups.h"
#include "format/validate.h"
#include "quantised_encoder.h"
#include "sequence_agreement.h"

namespace mpq::convert {
namespace {

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

}  // namespace

TEST_CASE("lower of sequences: every head at every precision means what its graph means") {
  for (const Head head : {Head::kHidden, Head::kAnswers, Head::kMean, Head::kClassifier})
    for (const auto& [weight, activation] : {std::pair{8, 8}, {4, 8}, {2, 8}, {4, 4}})
      for (const double equalise : {0.0, 0.5}) {
        CAPTURE(static_cast<int>(head));
        const int weight_bits = weight, activation_bits = activation;
        CAPTURE(weight_bits);
        CAPTURE(activation_bits);
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

}  // namespace mpq::convert
