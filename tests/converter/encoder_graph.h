// Small transformer encoders for tests, with every option that importers give them.
#pragma once

#include <cmath>
#include <initializer_list>
#include <string>

#include "converter/eval_sequences.h"
#include "graph_builder.h"

namespace mpq::convert {

struct EncoderShape {
  int64_t width = 16, wide = 24, vocabulary = 40;
  uint32_t heads = 2, length = 12, first_position = 0;
  int layers = 2;
  bool types = true, relative_bias = false, gelu_tanh = false;
  // A row a token, of hidden states or of answers; a row a sequence.
  enum class Head { kHidden, kAnswers, kMean, kFirst, kClassifier } head = Head::kHidden;
  // Channels 1 and 5 of normalisations are so much larger than others, and weights for them
  // smaller.
  float outlier = 1.0F;
};

class EncoderBuilder {
 public:
  EncoderBuilder(const EncoderShape& shape, uint32_t seed) : shape_(shape), b_(seed) {}

  Graph build() {
    Graph& graph = b_.graph;
    graph.name = "encoder";
    graph.sequence_length = shape_.length;
    const auto index = [&](const char* name) {
      graph.inputs.push_back(graph.add_value({.name = name, .shape = {1}}));
      return graph.inputs.back();
    };
    const ValueId ids = index("ids"), types = shape_.types ? index("types") : kNoValue;
    std::vector<ValueId> inputs = {
        ids, types, b_.random({shape_.vocabulary, shape_.width}),
        b_.random({int64_t{shape_.length} + shape_.first_position, shape_.width}, 0.5F)};
    if (shape_.types) inputs.push_back(b_.random({2, shape_.width}, 0.5F));
    ValueId x = norm("embeddings.norm",
                     node("embeddings", Embedding{shape_.first_position}, std::move(inputs)));
    const ValueId bias =
        shape_.relative_bias ? b_.random({shape_.heads, 2 * int64_t{shape_.length} - 1}) : kNoValue;
    for (int i = 0; i < shape_.layers; ++i) x = layer("layer." + std::to_string(i) + ".", x, bias);
    return b_.finish(head(x));
  }

 private:
  static bool is_outlier(size_t channel) { return channel == 1 || channel == 5; }
  ValueId node(const std::string& name, Op op, std::vector<ValueId> inputs) {
    const ValueId y = b_.node(std::move(op), std::move(inputs));
    b_.graph.nodes.back().name = name;
    b_.graph.values[y].name = name + ".out";
    return y;
  }
  ValueId linear(const std::string& name, ValueId x, int64_t outputs, bool of_norm = true) {
    const int64_t in = b_.graph.values[x].shape[1];
    const float deviation = 1.2F / std::sqrt(static_cast<float>(in));
    const ValueId weights = b_.random({outputs, in}, deviation);
    Value& value = b_.graph.values[weights];
    value.name = name + ".weight";
    for (size_t i = 0; of_norm && i < value.data.size(); ++i)
      if (is_outlier(i % static_cast<size_t>(in))) value.data[i] /= shape_.outlier;
    return node(name, Linear{}, {x, weights, b_.random({outputs}, 0.2F)});
  }
  ValueId norm(const std::string& name, ValueId x) {
    const ValueId gamma = b_.random({shape_.width}, 0.2F, 1.0F);
    std::vector<float>& data = b_.graph.values[gamma].data;
    for (size_t c = 0; c < data.size(); ++c)
      if (is_outlier(c)) data[c] *= shape_.outlier;
    return node(name, LayerNorm{1e-5F}, {x, gamma, b_.random({shape_.width}, 0.2F)});
  }
  ValueId layer(const std::string& at, ValueId x, ValueId bias) {
    std::vector<ValueId> inputs;
    for (const char* part : {"query", "key", "value"})
      inputs.push_back(linear(at + part, x, shape_.width));
    if (bias != kNoValue) inputs.push_back(bias);
    const ValueId attended = node(at + "attention", Attention{shape_.heads}, std::move(inputs));
    const ValueId projected = linear(at + "projection", attended, shape_.width, false);
    x = norm(at + "attention.norm", node(at + "attention.add", Add{}, {projected, x}));
    const ValueId bent =
        node(at + "gelu", Gelu{shape_.gelu_tanh}, {linear(at + "up", x, shape_.wide)});
    const ValueId down = linear(at + "down", bent, shape_.width, false);
    return norm(at + "output.norm", node(at + "output.add", Add{}, {down, x}));
  }
  ValueId head(ValueId x) {
    using Head = EncoderShape::Head;
    if (shape_.head == Head::kHidden) return x;
    if (shape_.head == Head::kAnswers) return linear("answers", x, 2);
    if (shape_.head == Head::kMean) return node("pooling", SequencePool{true, true}, {x});
    x = node("pooling", SequencePool{}, {x});
    if (shape_.head == Head::kFirst) return x;
    x = node("pooler.tanh", Tanh{}, {linear("pooler", x, shape_.width)});
    return linear("classifier", x, 3);
  }

  EncoderShape shape_;
  GraphBuilder b_;
};

inline Graph encoder_graph(const EncoderShape& shape, uint32_t seed) {
  return EncoderBuilder(shape, seed).build();
}

// Words and types at random.
inline SequenceData random_sequences(const EncoderShape& shape,
                                     std::initializer_list<size_t> lengths, uint32_t seed) {
  std::mt19937 random(seed);
  SequenceData data;
  for (const size_t length : lengths) {
    std::vector<int32_t> ids, types;
    for (size_t t = 0; t < length; ++t) {
      ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(shape.vocabulary)));
      if (shape.types) types.push_back(t > length / 2 ? 1 : 0);
    }
    data.add(ids, types);
  }
  return data;
}

}  // namespace mpq::convert
