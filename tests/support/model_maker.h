// Models for tests of whole networks, made at random, each with every feature that it is there to
// cover.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "format/bits.h"
#include "format/model.h"

namespace mpq::test {

// Builds a model and owns its bulk data; must outlive the model's use.
class ModelMaker {
 public:
  explicit ModelMaker(uint32_t seed, std::string name = "tiny") : random_(seed) {
    model.name = std::move(name);
    model.producer = "tests";
  }

  format::Model model;

  int32_t pick(int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random_);
  }
  float real(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random_);
  }

  format::TensorId activation(const std::string& name, DType type, Shape shape,
                              QuantParams quant = {}) {
    return add(
        {.name = name, .dtype = type, .shape = std::move(shape), .quant = quant, .data = {}});
  }
  format::TensorId input(const std::string& name, DType type, Shape shape, QuantParams quant = {}) {
    model.inputs.push_back(activation(name, type, std::move(shape), quant));
    return model.inputs.back();
  }
  template <typename T>
  format::TensorId constant(const std::string& name, DType type, Shape shape,
                            const std::vector<T>& values) {
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    return keep(name, type, std::move(shape), {bytes, bytes + values.size() * sizeof(T)});
  }
  // Packed as in the file.
  format::TensorId codes(const std::string& name, DType type, Shape shape,
                         const std::vector<int32_t>& values) {
    std::vector<std::byte> packed(format::packed_bytes(values.size(), bits_of(type)));
    for (size_t i = 0; i < values.size(); ++i)
      format::set_code(packed, i, bits_of(type), values[i]);
    return keep(name, type, std::move(shape), std::move(packed));
  }

  struct Dense {
    uint32_t out = 1;
    DType weights = DType::kS8, y = DType::kU8;
    int32_t y_zero_point = 0;
    bool acc_bias = true;
    format::TensorId residual = format::kNoTensor;
    int32_t residual_shift = -1;
    DType second = DType::kF32;  // a code type: there is a second output
  };

  // A convolution with random weights whose sums cover the output's range. Returns the output; the
  // second one is the next tensor.
  format::TensorId conv(const std::string& name, format::TensorId x, uint32_t r, uint32_t s,
                        format::Conv2dAttrs attrs, const Dense& d) {
    const Shape in = model.tensors[x].shape;
    const auto size = [](int64_t length, uint32_t before, uint32_t after, uint32_t kernel,
                         uint32_t dilation, uint32_t stride) {
      return (length + before + after - (int64_t{kernel} - 1) * dilation - 1) / stride + 1;
    };
    const Shape out = {
        in[0], d.out,
        size(in[2], attrs.pad_top, attrs.pad_bottom, r, attrs.dilation_h, attrs.stride_h),
        size(in[3], attrs.pad_left, attrs.pad_right, s, attrs.dilation_w, attrs.stride_w)};
    format::Node node = {.name = name, .attrs = {}, .inputs = {x}, .outputs = {}};
    attrs.requant = dense(&node, {d.out, in[1] / attrs.groups, r, s}, out, d);
    node.attrs = attrs;
    model.nodes.push_back(node);
    return node.outputs[0];
  }

  format::TensorId linear(const std::string& name, format::TensorId x, const Dense& d) {
    const Shape in = model.tensors[x].shape;
    format::Node node = {.name = name, .attrs = {}, .inputs = {x}, .outputs = {}};
    node.attrs = format::LinearAttrs{dense(&node, {d.out, in[1]}, {in[0], d.out}, d)};
    model.nodes.push_back(node);
    return node.outputs[0];
  }

  format::TensorId node(const std::string& name, format::Attrs attrs,
                        std::vector<format::TensorId> inputs, DType type, Shape shape,
                        QuantParams quant = {}) {
    const format::TensorId y = activation(name + ".y", type, std::move(shape), quant);
    model.nodes.push_back(
        {.name = name, .attrs = std::move(attrs), .inputs = std::move(inputs), .outputs = {y}});
    return y;
  }

 private:
  format::TensorId add(format::Tensor tensor) {
    model.tensors.push_back(std::move(tensor));
    return static_cast<format::TensorId>(model.tensors.size() - 1);
  }
  format::TensorId keep(const std::string& name, DType type, Shape shape,
                        std::vector<std::byte> bytes) {
    storage_.push_back(std::move(bytes));
    return add({.name = name,
                .dtype = type,
                .shape = std::move(shape),
                .quant = {},
                .data = storage_.back()});
  }

  format::Requant dense(format::Node* node, const Shape& weights, const Shape& out,
                        const Dense& d) {
    const std::string& name = node->name;
    const format::Tensor x = model.tensors[node->inputs[0]];
    size_t count = 1;
    for (const int64_t n : weights) count *= static_cast<size_t>(n);
    const auto channels = static_cast<size_t>(weights[0]), k = count / channels;
    std::vector<int32_t> w(count), acc_bias(channels), factor(channels);
    for (int32_t& code : w) code = pick(min_code(d.weights), max_code(d.weights));
    for (size_t o = 0; o < channels; ++o) {
      for (size_t i = 0; i < k; ++i) acc_bias[o] -= x.quant.zero_point * w[o * k + i];
      acc_bias[o] += pick(-50, 50);
    }
    // Typical sums are about sqrt(K) * x * w: half of the code range.
    const auto amplitude =
        static_cast<float>(max_code(x.dtype)) * static_cast<float>(-min_code(d.weights));
    const float range = is_code(d.y) ? static_cast<float>(max_code(d.y)) : 8.0F;
    std::vector<float> multiplier(channels), bias(channels);
    for (size_t o = 0; o < channels; ++o) {
      multiplier[o] = real(0.5F, 2.0F) * range / (amplitude * std::sqrt(static_cast<float>(k)));
      bias[o] = static_cast<float>(d.y_zero_point) + real(0.2F, 0.6F) * range;
    }
    node->inputs.push_back(codes(name + ".w", d.weights, weights, w));
    const Shape per_channel = {weights[0]};
    node->inputs.push_back(constant(name + ".m", DType::kF32, per_channel, multiplier));
    node->inputs.push_back(constant(name + ".b", DType::kF32, per_channel, bias));
    node->inputs.push_back(d.acc_bias ? constant(name + ".a", DType::kS32, per_channel, acc_bias)
                                      : format::kNoTensor);
    format::Requant requant;
    if (is_code(d.y)) requant.hi = max_code(d.y);
    if (d.residual != format::kNoTensor) {
      node->inputs.push_back(d.residual);
      requant.residual_scale = d.residual_shift < 0 ? real(0.3F, 0.9F) : 0.0F;
      requant.residual_shift = d.residual_shift;
      if (d.residual_shift >= 0) {
        for (int32_t& f : factor) f = pick(-3000, 3000);
        node->inputs.push_back(constant(name + ".f", DType::kS32, per_channel, factor));
      }
    }
    while (node->inputs.back() == format::kNoTensor) node->inputs.pop_back();
    node->outputs.push_back(activation(
        name + ".y", d.y, out, {is_code(d.y) ? 0.05F : 0.0F, is_code(d.y) ? d.y_zero_point : 0}));
    if (is_code(d.second)) {
      node->outputs.push_back(activation(name + ".y2", d.second, out, {0.1F, 1}));
      requant.second_scale = static_cast<float>(max_code(d.second)) / range;
      requant.second_bias = 1.0F;
      requant.second_hi = max_code(d.second);
    }
    return requant;
  }

  std::mt19937 random_;
  std::deque<std::vector<std::byte>> storage_;
};

// Every operator, odd sizes, zero points, halos, both kinds of residual, second outputs, groups,
// dilation, tensors with several readers, and outputs of every form.
inline void make_everything_in_groups(ModelMaker* m, uint32_t groups) {
  using format::kNoTensor;
  const auto pixels = m->input("pixels", DType::kU8, {1, 17, 15, 3});
  std::vector<uint8_t> table(3 * 256);
  for (uint8_t& code : table) code = static_cast<uint8_t>(m->pick(0, 255));
  const auto lut = m->constant("table", DType::kU8, {3, 256}, table);
  const auto image = m->node("image", format::ImageQuantizeAttrs{}, {pixels, lut}, DType::kU8,
                             {1, 3, 17, 15}, {0.02F, 7});
  const auto stem = m->conv(
      "stem", image, 5, 5,
      {.stride_h = 2, .stride_w = 2, .pad_top = 2, .pad_left = 2, .pad_bottom = 2, .pad_right = 2},
      {.out = 20, .weights = DType::kS8, .y = DType::kU4});
  const auto pool = m->node("pool", format::MaxPoolAttrs{3, 3, 2, 2, 1, 1, 1, 1}, {stem},
                            DType::kU4, {1, 20, 5, 4}, {0.05F, 0});
  const auto body =
      m->conv("body", pool, 3, 3, {.pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1},
              {.out = 20,
               .weights = DType::kS4,
               .y = DType::kU8,
               .y_zero_point = 3,
               .residual = pool,
               .second = DType::kU2});
  const auto low = body + 1;  // the second output
  const auto wide = m->conv("wide", low, 1, 1, {},
                            {.out = 70, .weights = DType::kS2, .y = DType::kU8, .acc_bias = false});
  const auto grouped = m->conv("grouped", body, 3, 2,
                               {.stride_h = 1,
                                .stride_w = 2,
                                .pad_top = 2,
                                .pad_left = 1,
                                .pad_bottom = 2,
                                .pad_right = 0,
                                .dilation_h = 2,
                                .dilation_w = 1,
                                .groups = groups},
                               {.out = 8, .weights = DType::kS8, .y = DType::kU8});
  const auto mix = m->conv("mix", wide, 1, 1, {},
                           {.out = 70,
                            .weights = DType::kS4,
                            .y = DType::kU8,
                            .y_zero_point = 2,
                            .residual = wide,
                            .residual_shift = 5});
  const auto sum = m->activation("sum.y", DType::kU4, {1, 70, 5, 4}, {0.1F, 1});
  const auto sum2 = m->activation("sum.y2", DType::kU8, {1, 70, 5, 4}, {0.1F, 5});
  m->model.nodes.push_back(
      {.name = "sum",
       .attrs = format::AddAttrs{0.03F, 0.02F, 1.0F, 1, 15, 16.0F, 5.0F, 0, 250},
       .inputs = {wide, mix},
       .outputs = {sum, sum2}});
  const auto last =
      m->conv("last", sum, 3, 3, {.pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1},
              {.out = 66, .weights = DType::kS2, .y = DType::kU4, .residual = kNoTensor});
  const auto average =
      m->node("average", format::AvgPoolAttrs{.multiplier = 0.6F, .bias = 0.5F, .lo = 0, .hi = 255},
              {last}, DType::kU8, {1, 66, 1, 1}, {0.01F, 0});
  const auto logits =
      m->linear("logits", average, {.out = 10, .weights = DType::kS8, .y = DType::kF32});
  const auto sums = m->linear("sums", average, {.out = 7, .weights = DType::kS4, .y = DType::kS32});
  const auto window = m->node("window",
                              format::AvgPoolAttrs{.kernel_h = 2,
                                                   .kernel_w = 3,
                                                   .stride_h = 2,
                                                   .stride_w = 1,
                                                   .multiplier = 0.25F,
                                                   .bias = 0.125F},
                              {sum2}, DType::kF32, {1, 70, 2, 2});
  m->model.outputs = {logits, sums, grouped, window, sum};
}
inline void make_everything(ModelMaker* m) { make_everything_in_groups(m, 4); }

// Matrices: float rows quantised, two products.
inline void make_matrix(ModelMaker* m) {
  const auto x = m->input("rows", DType::kF32, {1, 40});
  const auto codes =
      m->node("quantize", format::QuantizeAttrs{}, {x}, DType::kU4, {1, 40}, {0.13F, 8});
  const auto hidden =
      m->linear("hidden", codes, {.out = 67, .weights = DType::kS2, .y = DType::kU8});
  const auto y = m->linear("out", hidden, {.out = 5, .weights = DType::kS4, .y = DType::kF32});
  m->model.outputs = {y};
}

// Codes in, floats of several pixels inside and out.
inline void make_codes(ModelMaker* m) {
  const auto x = m->input("codes", DType::kU4, {1, 6, 5, 7}, {0.1F, 4});
  const auto real =
      m->conv("real", x, 3, 3, {.pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1},
              {.out = 9, .weights = DType::kS4, .y = DType::kF32});
  const auto codes =
      m->node("again", format::QuantizeAttrs{}, {real}, DType::kU2, {1, 9, 5, 7}, {2.0F, 1});
  const auto y = m->conv("final", codes, 1, 1, {.stride_h = 2, .stride_w = 3},
                         {.out = 4, .weights = DType::kS8, .y = DType::kF32});
  m->model.outputs = {y, real};
}

}  // namespace mpq::test
