// Bottleneck ResNets as the IR has them after folding: shapes without weights, or random weights.
#pragma once

#include <array>
#include <string>

#include "converter/graph.h"

namespace mpq::testing {

struct ResnetSpec {
  std::array<int, 4> blocks = {3, 4, 6, 3};
  bool stride_in_3x3 = true;  // v1.5; v1 has it in the first 1x1
  int64_t width = 64;         // channels of the stem
  int64_t side = 224;
  int64_t classes = 1000;
};

class ResnetBuilder {
 public:
  explicit ResnetBuilder(const ResnetSpec& spec) : spec_(spec) {}

  convert::Graph build() {
    using namespace convert;
    ValueId x = graph_.add_value({.name = "image", .shape = {1, 3, spec_.side, spec_.side}});
    graph_.inputs = {x};
    x = relu(conv("conv1", x, spec_.width, 7, 2));
    x = node("maxpool", MaxPool{3, 3, 2, 2, 1, 1, 1, 1}, {x}, pooled(x));
    for (size_t stage = 0; stage < 4; ++stage)
      for (int i = 0; i < spec_.blocks[stage]; ++i)
        x = block("layer" + std::to_string(stage + 1) + "." + std::to_string(i), x,
                  spec_.width << stage, i == 0 && stage > 0 ? 2 : 1, i == 0);
    const int64_t channels = shape(x)[1];
    x = node("avgpool", AvgPool{}, {x}, {1, channels, 1, 1});
    x = node("flatten", Flatten{}, {x}, {1, channels});
    const ValueId weights = constant("fc.weight", {spec_.classes, channels});
    x = node("fc", Linear{}, {x, weights}, {1, spec_.classes});
    graph_.outputs = {x};
    return std::move(graph_);
  }

 private:
  using ValueId = convert::ValueId;
  Shape shape(ValueId v) const { return graph_.values[v].shape; }
  Shape pooled(ValueId v) const {
    const Shape s = shape(v);
    return {1, s[1], (s[2] - 1) / 2 + 1, (s[3] - 1) / 2 + 1};
  }
  ValueId constant(const std::string& name, Shape s) {
    return graph_.add_value({.name = name, .shape = std::move(s), .is_constant = true});
  }
  ValueId node(const std::string& name, convert::Op op, std::vector<ValueId> inputs, Shape out) {
    const ValueId y = graph_.add_value({.name = name + ".out", .shape = std::move(out)});
    graph_.nodes.push_back(
        {.name = name, .op = std::move(op), .inputs = std::move(inputs), .output = y});
    return y;
  }
  ValueId relu(ValueId x) {
    return node("relu" + std::to_string(x), convert::Relu{}, {x}, shape(x));
  }
  ValueId conv(const std::string& name, ValueId x, int64_t out, int64_t kernel, int64_t stride) {
    const Shape s = shape(x);
    const auto pad = static_cast<uint32_t>(kernel / 2);
    convert::Conv op;
    op.stride_h = op.stride_w = static_cast<uint32_t>(stride);
    op.pad_top = op.pad_left = op.pad_bottom = op.pad_right = pad;
    const auto extent = [&](int64_t n) { return (n + 2 * pad - kernel) / stride + 1; };
    return node(name, op, {x, constant(name + ".weight", {out, s[1], kernel, kernel})},
                {1, out, extent(s[2]), extent(s[3])});
  }
  ValueId block(const std::string& name, ValueId x, int64_t mid, int64_t stride, bool first) {
    const int64_t in_1x1 = spec_.stride_in_3x3 ? 1 : stride;
    ValueId y = relu(conv(name + ".conv1", x, mid, 1, in_1x1));
    y = relu(conv(name + ".conv2", y, mid, 3, stride / in_1x1));
    y = conv(name + ".conv3", y, 4 * mid, 1, 1);
    if (first) x = conv(name + ".downsample", x, 4 * mid, 1, stride);
    return relu(node(name + ".add", convert::Add{}, {y, x}, shape(y)));
  }

  ResnetSpec spec_;
  convert::Graph graph_;
};

}  // namespace mpq::testing
