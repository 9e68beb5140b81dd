#include "naive_eval.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace mpq::convert {
namespace {

using Data = std::vector<double>;

struct Naive {
  const Graph& graph;
  const Node& node;
  std::map<ValueId, Data>& values;

  const Shape& shape(size_t i) const { return graph.values[node.inputs[i]].shape; }
  const Shape& out() const { return graph.values[node.output].shape; }
  bool has(size_t i) const { return i < node.inputs.size() && node.inputs[i] != kNoValue; }
  Data in(size_t i) const {
    const Value& value = graph.values[node.inputs[i]];
    if (i == 1 && node.weight_quant) {
      const WeightQuant& quant = *node.weight_quant;
      const size_t row = quant.codes.size() / static_cast<size_t>(value.shape[0]);
      Data data;
      for (size_t k = 0; k < quant.codes.size(); ++k)
        data.push_back(
            double{quant.codes[k] * quant.spec.scale[quant.spec.scale.size() == 1 ? 0 : k / row]});
      return data;
    }
    if (value.is_constant) return Data(value.data.begin(), value.data.end());
    return values.at(node.inputs[i]);
  }
  static int64_t at(const Shape& s, int64_t n, int64_t c, int64_t h, int64_t w) {
    return ((n * s[1] + c) * s[2] + h) * s[3] + w;
  }
  template <typename F>
  Data map(F f) const {
    Data data = in(0);
    for (double& v : data) v = f(v);
    return data;
  }
  template <typename F>
  void for_outputs(F f) const {
    for (int64_t n = 0; n < out()[0]; ++n)
      for (int64_t c = 0; c < out()[1]; ++c)
        for (int64_t h = 0; h < out()[2]; ++h)
          for (int64_t w = 0; w < out()[3]; ++w) f(n, c, h, w);
  }

  Data operator()(const Conv& op) const {
    const Data x = in(0), weights = in(1),
               bias = has(2) ? in(2) : Data(static_cast<size_t>(out()[1]), 0.0);
    const Shape &s = shape(0), &k = shape(1);
    Data y;
    for_outputs([&](int64_t n, int64_t o, int64_t h, int64_t w) {
      double sum = bias[static_cast<size_t>(o)];
      const int64_t first = o / (k[0] / op.groups) * k[1];
      for (int64_t i = 0; i < k[1]; ++i)
        for (int64_t r = 0; r < k[2]; ++r)
          for (int64_t q = 0; q < k[3]; ++q) {
            const int64_t iy = h * op.stride_h + r * op.dilation_h - op.pad_top;
            const int64_t ix = w * op.stride_w + q * op.dilation_w - op.pad_left;
            if (iy < 0 || ix < 0 || iy >= s[2] || ix >= s[3]) continue;
            sum += x[static_cast<size_t>(at(s, n, first + i, iy, ix))] *
                   weights[static_cast<size_t>(at(k, o, i, r, q))];
          }
      y.push_back(sum);
    });
    return y;
  }
  Data operator()(const Linear&) const {
    const Data x = in(0), w = in(1);
    Data y;
    for (int64_t m = 0; m < out()[0]; ++m)
      for (int64_t o = 0; o < out()[1]; ++o) {
        double sum = has(2) ? in(2)[static_cast<size_t>(o)] : 0.0;
        for (int64_t k = 0; k < shape(1)[1]; ++k)
          sum += x[static_cast<size_t>(m * shape(1)[1] + k)] *
                 w[static_cast<size_t>(o * shape(1)[1] + k)];
        y.push_back(sum);
      }
    return y;
  }
  Data operator()(const BatchNorm& op) const {
    Data x = in(0);
    const size_t area = x.size() / static_cast<size_t>(shape(0)[1]);
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t c = i / area;
      x[i] = (x[i] - in(3)[c]) / std::sqrt(in(4)[c] + op.epsilon) * in(1)[c] + in(2)[c];
    }
    return x;
  }
  Data operator()(const Relu&) const {
    return map([](double v) { return std::max(v, 0.0); });
  }
  Data operator()(const Clip& op) const {
    return map([&](double v) { return std::clamp<double>(v, op.lo, op.hi); });
  }
  Data operator()(const Add&) const {
    Data a = in(0);
    const Data b = in(1);
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }
  Data operator()(const MaxPool& op) const {
    const Data x = in(0);
    const Shape& s = shape(0);
    Data y;
    for_outputs([&](int64_t n, int64_t c, int64_t h, int64_t w) {
      double best = -std::numeric_limits<double>::infinity();
      for (int64_t r = 0; r < op.kernel_h; ++r)
        for (int64_t q = 0; q < op.kernel_w; ++q) {
          const int64_t iy = h * op.stride_h + r - op.pad_top,
                        ix = w * op.stride_w + q - op.pad_left;
          if (iy >= 0 && ix >= 0 && iy < s[2] && ix < s[3])
            best = std::max(best, x[static_cast<size_t>(at(s, n, c, iy, ix))]);
        }
      y.push_back(best);
    });
    return y;
  }
  Data operator()(const AvgPool& op) const {
    const Data x = in(0);
    const Shape& s = shape(0);
    const int64_t kh = op.kernel_h == 0 ? s[2] : op.kernel_h,
                  kw = op.kernel_w == 0 ? s[3] : op.kernel_w;
    Data y;
    for_outputs([&](int64_t n, int64_t c, int64_t h, int64_t w) {
      double sum = 0.0;
      for (int64_t r = 0; r < kh; ++r)
        for (int64_t q = 0; q < kw; ++q)
          sum += x[static_cast<size_t>(at(s, n, c, h * op.stride_h + r, w * op.stride_w + q))];
      y.push_back(sum / static_cast<double>(kh * kw));
    });
    return y;
  }
  Data operator()(const Flatten&) const { return in(0); }
  template <typename Other>  // of sequences: naive_sequences.h
  Data operator()(const Other&) const {
    throw std::logic_error(node.name + ": an operator of sequences");
  }
  Data operator()(const FakeQuant& op) const {
    const float scale = op.spec.scale[0];
    return map([&](double v) {
      // In binary32, as graph.h states it; std::nearbyint rounds half to even by default.
      const float position = static_cast<float>(v) / scale;
      const double code =
          std::clamp<double>(std::nearbyint(position) + op.spec.zero_point, op.spec.lo, op.spec.hi);
      return (code - op.spec.zero_point) * scale;
    });
  }
};

}  // namespace

std::map<ValueId, std::vector<double>> naive_eval(const Graph& graph,
                                                  const std::vector<float>& input) {
  std::map<ValueId, Data> values;
  values[graph.inputs[0]] = Data(input.begin(), input.end());
  for (const Node& node : graph.nodes)
    values[node.output] = std::visit(Naive{graph, node, values}, node.op);
  return values;
}

}  // namespace mpq::convert
