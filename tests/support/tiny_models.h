// Small models that together hold every operator, width and option, for tests of the format, the
// runtime and the tools. Weights are pseudo-random from a fixed seed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "format/bits.h"
#include "format/model.h"

namespace mpq::test {

// A model and the bytes that its tensors borrow. Movable: a deque's elements keep their place.
struct TinyModel {
  format::Model model;
  std::deque<std::vector<std::byte>> storage;
  uint32_t random_state = 1;

  // The high bits of a linear congruential generator: 0 .. 32767.
  int32_t random() {
    random_state = random_state * 1103515245U + 12345U;
    return static_cast<int32_t>(random_state >> 17);
  }

  format::TensorId add(format::Tensor tensor) {
    model.tensors.push_back(std::move(tensor));
    return static_cast<format::TensorId>(model.tensors.size() - 1);
  }
  format::TensorId activation(const std::string& name, DType type, Shape shape, float scale = 0.0F,
                              int32_t zero_point = 0) {
    return add({name, type, std::move(shape), {scale, zero_point}, {}});
  }
  format::TensorId constant(const std::string& name, DType type, Shape shape,
                            std::vector<std::byte> bytes) {
    storage.push_back(std::move(bytes));
    return add({name, type, std::move(shape), {}, storage.back()});
  }
  format::TensorId codes(const std::string& name, DType type, Shape shape,
                         const std::vector<int32_t>& codes) {
    std::vector<std::byte> bytes(format::packed_bytes(codes.size(), bits_of(type)));
    for (size_t i = 0; i < codes.size(); ++i) format::set_code(bytes, i, bits_of(type), codes[i]);
    return constant(name, type, std::move(shape), std::move(bytes));
  }
  template <typename T>
  format::TensorId values(const std::string& name, DType type, const std::vector<T>& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(T));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return constant(name, type, {static_cast<int64_t>(values.size())}, std::move(bytes));
  }
  format::TensorId random_weights(const std::string& name, DType type, Shape shape) {
    uint64_t elements = 0;
    checked_elements(shape, &elements);
    std::vector<int32_t> codes(elements);
    for (int32_t& code : codes) code = min_code(type) + random() % (1 << bits_of(type));
    return this->codes(name, type, std::move(shape), codes);
  }
  // multiplier and bias: about what maps the sums of this layer onto the codes of its output.
  std::pair<format::TensorId, format::TensorId> requant(const std::string& name, int channels,
                                                        float multiplier, float bias) {
    std::vector<float> m, b;
    for (int c = 0; c < channels; ++c) {
      m.push_back(multiplier * (1.0F + static_cast<float>(random() % 64) / 128.0F));
      b.push_back(bias + static_cast<float>(random() % 64) / 32.0F);
    }
    return {values(name + ".multiplier", DType::kF32, m), values(name + ".bias", DType::kF32, b)};
  }
  void node(const std::string& name, format::Attrs attrs, std::vector<format::TensorId> inputs,
            std::vector<format::TensorId> outputs) {
    model.nodes.push_back({name, std::move(attrs), std::move(inputs), std::move(outputs)});
  }
};

// image u8 [1,6,6,3] -> image_quantize -> conv1 (u8 x s8 -> u4) -> max pool -> conv2 (u4 x s4,
// float residual, two outputs u8 and u4) -> conv3 (u4 x s2, two groups, residual in the accumulator
// domain -> u2) -> add (u8 and u2 -> u8) -> global average pool -> u8 -> linear (u8 x s8 -> f32
// [1,5]).
inline TinyModel tiny_conv_net() {
  using namespace format;
  TinyModel t;
  Model& m = t.model;
  m.name = "tiny_conv_net";
  m.producer = "mpq tests";

  const TensorId image = t.activation("image", DType::kU8, {1, 6, 6, 3});
  std::vector<int32_t> table;
  for (int c = 0; c < 3; ++c)
    for (int p = 0; p < 256; ++p) table.push_back(std::min(255, p * (8 - c) / 8 + 3 * c));
  const TensorId lut = t.codes("image.table", DType::kU8, {3, 256}, table);
  const TensorId x = t.activation("x", DType::kU8, {1, 3, 6, 6}, 0.02F, 7);
  t.node("quantize", ImageQuantizeAttrs{}, {image, lut}, {x});

  const TensorId w1 = t.random_weights("conv1.weight", DType::kS8, {8, 3, 3, 3});
  const auto [m1, b1] = t.requant("conv1", 8, 0.0002F, 5.0F);
  const TensorId a1 =
      t.values<int32_t>("conv1.acc_bias", DType::kS32, {9, -8, 700, -600, 5000, 4, -3, 2});
  const TensorId y1 = t.activation("conv1.out", DType::kU4, {1, 8, 6, 6}, 0.5F);
  t.node("conv1",
         Conv2dAttrs{.pad_top = 1,
                     .pad_left = 1,
                     .pad_bottom = 1,
                     .pad_right = 1,
                     .requant = {.lo = 0, .hi = 15}},
         {x, w1, m1, b1, a1}, {y1});

  const TensorId p = t.activation("pool.out", DType::kU4, {1, 8, 3, 3}, 0.5F);
  t.node(
      "pool",
      MaxPoolAttrs{
          .kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .pad_top = 1, .pad_left = 1},
      {y1}, {p});

  const TensorId w2 = t.random_weights("conv2.weight", DType::kS4, {8, 8, 1, 1});
  const auto [m2, b2] = t.requant("conv2", 8, 0.5F, 100.0F);
  const TensorId y2 = t.activation("conv2.out", DType::kU8, {1, 8, 3, 3}, 0.25F, 100);
  const TensorId y2b = t.activation("conv2.low", DType::kU4, {1, 8, 3, 3}, 1.0F);
  t.node("conv2",
         Conv2dAttrs{.requant = {.lo = 0,
                                 .hi = 255,
                                 .residual_scale = 2.0F,
                                 .second_scale = 0.25F,
                                 .second_bias = -20.0F,
                                 .second_lo = 0,
                                 .second_hi = 15}},
         {p, w2, m2, b2, kNoTensor, p}, {y2, y2b});

  const TensorId w3 = t.random_weights("conv3.weight", DType::kS2, {8, 4, 3, 3});
  const auto [m3, b3] = t.requant("conv3", 8, 0.01F, 1.0F);
  const TensorId f3 =
      t.values<int32_t>("conv3.factor", DType::kS32, {70, 80, 90, -100, 110, 120, 0, 140});
  const TensorId y3 = t.activation("conv3.out", DType::kU2, {1, 8, 3, 3}, 3.0F);
  t.node("conv3",
         Conv2dAttrs{.pad_top = 1,
                     .pad_left = 1,
                     .pad_bottom = 1,
                     .pad_right = 1,
                     .groups = 2,
                     .requant = {.lo = 0, .hi = 3, .residual_shift = 4}},
         {y2b, w3, m3, b3, kNoTensor, y2, f3}, {y3});

  const TensorId s = t.activation("add.out", DType::kU8, {1, 8, 3, 3}, 0.3F, 12);
  t.node("add", AddAttrs{.scale_a = 0.8F, .scale_b = 10.0F, .bias = 12.0F, .lo = 12, .hi = 200},
         {y2, y3}, {s});

  const TensorId g = t.activation("avg.out", DType::kU8, {1, 8, 1, 1}, 0.3F);
  t.node("avg", AvgPoolAttrs{.multiplier = 1.0F / 9.0F, .bias = 3.5F, .lo = 0, .hi = 127}, {s},
         {g});

  const TensorId w4 = t.random_weights("fc.weight", DType::kS8, {5, 8});
  const auto [m4, b4] = t.requant("fc", 5, 0.001F, -1.0F);
  const TensorId y4 = t.activation("logits", DType::kF32, {1, 5});
  t.node("fc", LinearAttrs{}, {g, w4, m4, b4}, {y4});

  m.inputs = {image};
  m.outputs = {y4};
  m.has_image_preprocess = true;
  m.image.resize_shorter = 8;
  m.image.crop_h = m.image.crop_w = 6;
  m.image.mean = {0.485F, 0.456F, 0.406F};
  m.image.stddev = {0.229F, 0.224F, 0.225F};
  m.labels = {"cat", "dog", "caf\xC3\xA9", "crane", "crane"};
  m.metadata = {{"source", "made by hand"}, {"note", "two\nlines"}};
  m.map.method = "manual";
  m.map.cost_model = "bmac";
  m.map.solver = "none";
  m.map.checkpoint = "imported";
  m.map.budget = 0.75;
  m.map.seed = 42;
  m.map.layers = {{"conv1", 8, 8, 0}, {"conv2", 4, 4, 1}, {"conv3", 2, 4, 1}, {"fc", 8, 8, 0}};
  m.map.groups = {{0, 0, 2, 2, true}, {0.5, 0.125, 9, 4, false}};
  return t;
}

// x f32 [1,12] -> quantize (u8, zero point 128) -> linear (u8 x s4 -> u4) -> linear (u4 x s2 -> f32
// [1,3]), and a second output of the graph: the accumulators (s32 [1,4]) of a third linear (u4 x
// s8).
inline TinyModel tiny_linear_net() {
  using namespace format;
  TinyModel t;
  t.model.name = "tiny_linear_net";
  t.model.producer = "mpq tests";
  const TensorId x = t.activation("x", DType::kF32, {1, 12});
  const TensorId q = t.activation("x.codes", DType::kU8, {1, 12}, 0.03125F, 128);
  t.node("quantize", QuantizeAttrs{}, {x}, {q});

  const TensorId w1 = t.random_weights("fc1.weight", DType::kS4, {7, 12});
  const auto [m1, b1] = t.requant("fc1", 7, 0.005F, 6.0F);
  std::vector<int32_t> acc_bias;  // -zero point * sum of the weights of each row
  for (int o = 0; o < 7; ++o) {
    int32_t sum = 0;
    for (int k = 0; k < 12; ++k)
      sum += get_code(t.model.tensors[w1].data, static_cast<uint64_t>(o * 12 + k), 4, true);
    acc_bias.push_back(-128 * sum);
  }
  const TensorId a1 = t.values("fc1.acc_bias", DType::kS32, acc_bias);
  const TensorId h = t.activation("fc1.out", DType::kU4, {1, 7}, 0.125F);
  t.node("fc1", LinearAttrs{{.lo = 0, .hi = 15}}, {q, w1, m1, b1, a1}, {h});

  const TensorId w2 = t.random_weights("fc2.weight", DType::kS2, {3, 7});
  const auto [m2, b2] = t.requant("fc2", 3, 0.25F, -0.5F);
  const TensorId y = t.activation("y", DType::kF32, {1, 3});
  t.node("fc2", LinearAttrs{}, {h, w2, m2, b2}, {y});

  const TensorId w3 = t.random_weights("fc3.weight", DType::kS8, {4, 7});
  const auto [m3, b3] = t.requant("fc3", 4, 0.25F, -0.5F);
  const TensorId sums = t.activation("sums", DType::kS32, {1, 4});
  t.node("fc3", LinearAttrs{}, {h, w3, m3, b3}, {sums});
  t.model.inputs = {x};
  t.model.outputs = {y, sums};
  return t;
}

// ids, types -> embedding (s8 words) -> layer norm (f32 and u8) -> qkv (u8 x s4 -> u8) -> attention
// with relative bias -> out (u4 x s8 -> f32) -> residual layer norm -> gelu (u4 x s2) -> f32 ->
// layer norm -> mean of each sequence -> tanh of a linear (f32 [1,3]); and the tokens' rows.
inline TinyModel sized_text_net(int width, int length) {
  using namespace format;
  constexpr int kHeads = 2, kVocabulary = 11;
  TinyModel t;
  Model& m = t.model;
  m.name = "tiny_text_net";
  m.producer = "mpq tests";
  m.sequence_length = length;
  const auto table = [&t](const std::string& name, int rows, int columns, float scale) {
    std::vector<float> v;
    for (int i = 0; i < rows * columns; ++i)
      v.push_back(scale * static_cast<float>(t.random() % 257 - 128) / 128.0F);
    const TensorId id = t.values(name, DType::kF32, v);
    if (columns > 1) t.model.tensors[id].shape = {rows, columns};
    return id;
  };
  const auto floats = [&t](const std::string& name, int count, float low, float range = 1.0F) {
    std::vector<float> v;
    for (int i = 0; i < count; ++i)
      v.push_back(low + range * static_cast<float>(t.random() % 64) / 64.0F);
    return t.values(name, DType::kF32, v);
  };
  // A linear layer with the sums' start -zero point * sum of the weights of each row.
  const auto linear = [&t](const std::string& name, TensorId x, DType type, int rows,
                           float multiplier, float bias, Requant requant, DType y_type,
                           float y_scale, int32_t y_zero) {
    const Tensor in = t.model.tensors[x];
    const int columns = static_cast<int>(in.shape[1]);
    const TensorId w = t.random_weights(name + ".weight", type, {rows, columns});
    const auto [scale, offset] = t.requant(name, rows, multiplier, bias);
    std::vector<int32_t> start;
    for (int o = 0; o < rows; ++o) {
      int32_t sum = 0;
      for (int k = 0; k < columns; ++k)
        sum += get_code(t.model.tensors[w].data, static_cast<uint64_t>(o * columns + k),
                        bits_of(type), true);
      start.push_back(-in.quant.zero_point * sum);
    }
    const TensorId a = t.values(name + ".acc_bias", DType::kS32, start);
    const TensorId y = t.activation(name + ".out", y_type, {1, rows}, y_scale, y_zero);
    t.node(name, LinearAttrs{requant}, {x, w, scale, offset, a}, {y});
    return y;
  };

  const TensorId ids = t.activation("ids", DType::kS32, {1});
  const TensorId types = t.activation("types", DType::kS32, {1});
  const TensorId words = t.random_weights("words", DType::kS8, {kVocabulary, width});
  const TensorId word_scale = floats("words.scale", kVocabulary, 0.01F);
  const TensorId positions = table("positions", length + 2, width, 0.5F);
  const TensorId type_rows = table("type_rows", 2, width, 0.25F);
  const TensorId e = t.activation("embedded", DType::kF32, {1, width});
  t.node("embed", EmbeddingAttrs{.position_offset = 2},
         {ids, types, words, word_scale, positions, type_rows}, {e});

  const TensorId g0 = floats("norm0.gamma", width, 0.5F), b0 = floats("norm0.beta", width, -0.5F);
  const TensorId h0 = t.activation("norm0.out", DType::kF32, {1, width});
  const TensorId q0 = t.activation("norm0.codes", DType::kU8, {1, width}, 0.02F, 120);
  const TensorId g0q = floats("norm0.second_gamma", width, 40.0F),
                 b0q = floats("norm0.second_beta", width, 120.0F);
  t.node("norm0", LayerNormAttrs{.epsilon = 1e-6F}, {e, kNoTensor, g0, b0, g0q, b0q}, {h0, q0});

  const TensorId qkv =
      linear("qkv", q0, DType::kS4, 3 * width, 0.05F, 127.0F, {}, DType::kU8, 0.03F, 128);
  // Small enough that every key counts: sums grow with the width, and the codes in them too.
  const float per_sum = 0.064F / static_cast<float>(width * width);
  const TensorId score = floats("attention.score", kHeads, per_sum, per_sum);
  const TensorId value = floats("attention.value", kHeads, 0.05F);
  const TensorId bias = table("attention.bias", kHeads, 2 * length - 1, 1.0F);
  const TensorId c = t.activation("attention.out", DType::kU4, {1, width}, 0.3F, 8);
  t.node("attention", AttentionAttrs{.heads = kHeads, .out_bias = 8.0F, .hi = 15},
         {qkv, score, value, bias}, {c});
  const TensorId o = linear("out", c, DType::kS8, width, 0.002F, -0.25F, {}, DType::kF32, 0.0F, 0);

  const TensorId g1 = floats("norm1.gamma", width, 0.5F), b1 = floats("norm1.beta", width, -0.5F);
  const TensorId h1 = t.activation("norm1.out", DType::kF32, {1, width});
  const TensorId q1 = t.activation("norm1.codes", DType::kU4, {1, width}, 0.3F, 7);
  t.node(
      "norm1",
      LayerNormAttrs{.epsilon = 1e-6F, .second_scale = 3.3F, .second_bias = 7.0F, .second_hi = 15},
      {o, h0, g1, b1}, {h1, q1});
  const TensorId u = linear("up", q1, DType::kS2, 12, 0.1F, -1.0F,
                            {.hi = 15,
                             .activation = Activation::kGelu,
                             .activation_scale = 4.0F,
                             .activation_bias = 1.0F},
                            DType::kU4, 0.25F, 1);
  const TensorId d = linear("down", u, DType::kS4, width, 0.02F, -0.5F, {}, DType::kF32, 0.0F, 0);
  const TensorId g2 = floats("norm2.gamma", width, 0.5F), b2 = floats("norm2.beta", width, -0.5F);
  const TensorId h2 = t.activation("hidden", DType::kF32, {1, width});
  t.node("norm2", LayerNormAttrs{.epsilon = 1e-6F}, {d, h1, g2, b2}, {h2});

  const TensorId s = t.activation("mean", DType::kF32, {1, width});
  t.node("pool", SequencePoolAttrs{SequencePoolAttrs::Mode::kMean, true}, {h2}, {s});
  const TensorId sq = t.activation("mean.codes", DType::kU8, {1, width}, 0.01F, 128);
  t.node("mean.quantize", QuantizeAttrs{}, {s}, {sq});
  const TensorId y = linear("head", sq, DType::kS8, 3, 0.0004F, -0.25F,
                            {.activation = Activation::kTanh}, DType::kF32, 0.0F, 0);

  m.inputs = {ids, types};
  m.outputs = {y, h2};
  m.labels = {"no", "maybe", "yes"};
  m.map.method = "uniform";
  for (const char* part : {"query", "key", "value"}) m.map.layers.push_back({"qkv", 4, 8, 0, part});
  m.map.layers.push_back({"up", 2, 4, 1, {}});
  m.map.groups = {{1.0, 0.0, 8.0, 4.0, false}, {2.0, 0.0, 8.0, 2.0, false}};
  const std::string tokens = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n##d\n##e\nf\n";
  const auto* first = reinterpret_cast<const std::byte*>(tokens.data());
  t.storage.emplace_back(first, first + tokens.size());
  m.vocabulary = t.storage.back();
  m.has_text_preprocess = true;
  m.text = {.unknown = 1, .begin = 2, .separator = 3, .padding = 0, .mask = 4};
  return t;
}
inline TinyModel tiny_text_net() { return sized_text_net(8, 6); }

}  // namespace mpq::test
