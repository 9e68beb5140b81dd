#include "integer_model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "format/bits.h"

namespace mpq::convert {
namespace {

using format::Tensor;
using format::TensorId;
using Data = std::vector<double>;

double code_of(float v, int32_t lo, int32_t hi) {
  return std::nearbyint(std::clamp(v, static_cast<float>(lo), static_cast<float>(hi)));
}

struct Run {
  const format::Model& model;
  const format::Node& node;
  std::map<TensorId, Data>& values;

  const Tensor& tensor(size_t i) const { return model.tensors[node.inputs[i]]; }
  const Tensor& out() const { return model.tensors[node.outputs[0]]; }
  bool has(size_t i) const { return i < node.inputs.size() && node.inputs[i] != format::kNoTensor; }

  Data in(size_t i) const {
    const Tensor& t = tensor(i);
    if (!t.is_constant()) return values.at(node.inputs[i]);
    uint64_t count = 1;
    for (const int64_t d : t.shape) count *= static_cast<uint64_t>(d);
    Data data;
    for (uint64_t n = 0; n < count; ++n) {
      if (t.dtype == DType::kF32) {
        float v;
        std::memcpy(&v, t.data.data() + 4 * n, 4);
        data.push_back(v);
      } else if (t.dtype == DType::kS32) {
        int32_t v;
        std::memcpy(&v, t.data.data() + 4 * n, 4);
        data.push_back(v);
      } else {
        data.push_back(format::get_code(t.data, n, bits_of(t.dtype), is_signed_code(t.dtype)));
      }
    }
    return data;
  }
  int32_t zero(size_t i) const { return tensor(i).quant.zero_point; }

  template <typename Target>
  void store(std::vector<Data>* y, float v, const Target& r) const {
    (*y)[0].push_back(code_of(v, r.lo, r.hi));
    if (y->size() > 1)
      (*y)[1].push_back(
          code_of(std::fmaf(v, r.second_scale, r.second_bias), r.second_lo, r.second_hi));
  }

  // sum(position, channel) is the exact integer sum without acc_bias.
  template <typename Sum>
  void requantise(const format::Requant& r, size_t positions, size_t channels, Sum sum,
                  std::vector<Data>* y) const {
    const Data m = in(format::kMultiplier), b = in(format::kBias);
    const Data acc_bias = has(format::kAccBias) ? in(format::kAccBias) : Data(channels, 0.0);
    const Data residual = has(format::kResidual) ? in(format::kResidual) : Data();
    for (size_t c = 0; c < channels; ++c)
      for (size_t p = 0; p < positions; ++p) {
        int64_t acc = sum(p, c) + static_cast<int64_t>(acc_bias[c]);
        check_limit(acc);
        float v = std::fmaf(static_cast<float>(static_cast<int32_t>(acc)), static_cast<float>(m[c]),
                            static_cast<float>(b[c]));
        if (!residual.empty())
          v = std::fmaf(static_cast<float>(residual[c * positions + p] - zero(format::kResidual)),
                        r.residual_scale, v);
        if (out().dtype == DType::kS32)
          (*y)[0].push_back(static_cast<double>(acc));
        else if (out().dtype == DType::kF32)
          (*y)[0].push_back(v);
        else
          store(y, v, r);
      }
  }
  static void check_limit(int64_t acc) {
    if (acc > INT32_MAX || acc < INT32_MIN) std::abort();
  }

  void operator()(const format::ImageQuantizeAttrs&, std::vector<Data>* y) const {
    const Data pixels = in(0), table = in(1);
    const auto area = static_cast<size_t>(out().shape[2] * out().shape[3]);
    for (size_t c = 0; c < 3; ++c)
      for (size_t p = 0; p < area; ++p)
        (*y)[0].push_back(table[c * 256 + static_cast<size_t>(pixels[p * 3 + c])]);
  }
  void operator()(const format::QuantizeAttrs&, std::vector<Data>* y) const {
    for (const double x : in(0)) {
      const float code = std::nearbyint(static_cast<float>(x) / out().quant.scale) +
                         static_cast<float>(out().quant.zero_point);
      (*y)[0].push_back(std::clamp(code, 0.0F, static_cast<float>(max_code(out().dtype))));
    }
  }
  void operator()(const format::Conv2dAttrs& a, std::vector<Data>* y) const {
    const Data x = in(0), w = in(1);
    const Shape &s = tensor(0).shape, &k = tensor(1).shape, &o = out().shape;
    const auto sum = [&](size_t p, size_t c) {
      const auto oy = static_cast<int64_t>(p) / o[3], ox = static_cast<int64_t>(p) % o[3];
      const int64_t first = static_cast<int64_t>(c) / (k[0] / a.groups) * k[1];
      int64_t acc = 0;
      for (int64_t i = 0; i < k[1]; ++i)
        for (int64_t r = 0; r < k[2]; ++r)
          for (int64_t q = 0; q < k[3]; ++q) {
            const int64_t iy = oy * a.stride_h + r * a.dilation_h - a.pad_top;
            const int64_t ix = ox * a.stride_w + q * a.dilation_w - a.pad_left;
            const bool inside = iy >= 0 && ix >= 0 && iy < s[2] && ix < s[3];
            const double code =
                inside ? x[static_cast<size_t>(((first + i) * s[2] + iy) * s[3] + ix)] : zero(0);
            acc += static_cast<int64_t>(
                code * w[((c * static_cast<size_t>(k[1]) + static_cast<size_t>(i)) *
                              static_cast<size_t>(k[2]) +
                          static_cast<size_t>(r)) *
                             static_cast<size_t>(k[3]) +
                         static_cast<size_t>(q)]);
          }
      return acc;
    };
    requantise(a.requant, static_cast<size_t>(o[2] * o[3]), static_cast<size_t>(o[1]), sum, y);
  }
  void operator()(const format::LinearAttrs& a, std::vector<Data>* y) const {
    const Data x = in(0), w = in(1);
    const auto sum = [&](size_t, size_t c) {
      int64_t acc = 0;
      for (size_t k = 0; k < x.size(); ++k) acc += static_cast<int64_t>(x[k] * w[c * x.size() + k]);
      return acc;
    };
    requantise(a.requant, 1, static_cast<size_t>(tensor(1).shape[0]), sum, y);
  }
  template <typename Visit>
  void windows(uint32_t kh, uint32_t kw, uint32_t sh, uint32_t sw, uint32_t top, uint32_t left,
               Visit visit) const {
    const Data x = in(0);
    const Shape &s = tensor(0).shape, &o = out().shape;
    for (int64_t c = 0; c < s[1]; ++c)
      for (int64_t oy = 0; oy < o[2]; ++oy)
        for (int64_t ox = 0; ox < o[3]; ++ox) {
          Data under;
          for (int64_t r = 0; r < kh; ++r)
            for (int64_t q = 0; q < kw; ++q) {
              const int64_t iy = oy * sh + r - top, ix = ox * sw + q - left;
              if (iy >= 0 && ix >= 0 && iy < s[2] && ix < s[3])
                under.push_back(x[static_cast<size_t>((c * s[2] + iy) * s[3] + ix)]);
            }
          visit(under);
        }
  }
  void operator()(const format::MaxPoolAttrs& a, std::vector<Data>* y) const {
    windows(a.kernel_h, a.kernel_w, a.stride_h, a.stride_w, a.pad_top, a.pad_left,
            [&](const Data& under) {
              (*y)[0].push_back(*std::max_element(under.begin(), under.end()));
            });
  }
  void operator()(const format::AvgPoolAttrs& a, std::vector<Data>* y) const {
    const bool global = a.kernel_h == 0;
    const auto kh = global ? static_cast<uint32_t>(tensor(0).shape[2]) : a.kernel_h;
    const auto kw = global ? static_cast<uint32_t>(tensor(0).shape[3]) : a.kernel_w;
    windows(kh, kw, a.stride_h, a.stride_w, 0, 0, [&](const Data& under) {
      int32_t sum = 0;
      for (const double code : under) sum += static_cast<int32_t>(code) - zero(0);
      const float v = std::fmaf(static_cast<float>(sum), a.multiplier, a.bias);
      (*y)[0].push_back(out().dtype == DType::kF32 ? v : code_of(v, a.lo, a.hi));
    });
  }
  template <typename SequenceAttrs>
  void operator()(const SequenceAttrs&, std::vector<Data>*) const {
    std::abort();  // images only
  }
  void operator()(const format::AddAttrs& a, std::vector<Data>* y) const {
    const Data p = in(0), q = in(1);
    for (size_t i = 0; i < p.size(); ++i)
      store(y,
            std::fmaf(static_cast<float>(p[i] - zero(0)), a.scale_a,
                      std::fmaf(static_cast<float>(q[i] - zero(1)), a.scale_b, a.bias)),
            a);
  }
};

}  // namespace

std::map<std::string, Data> run_model(const format::Model& model, const Data& input) {
  std::map<TensorId, Data> values = {{model.inputs[0], input}};
  for (const format::Node& node : model.nodes) {
    std::vector<Data> y(node.outputs.size());
    const Run run{model, node, values};
    std::visit([&](const auto& attrs) { run(attrs, &y); }, node.attrs);
    for (size_t i = 0; i < y.size(); ++i) values[node.outputs[i]] = std::move(y[i]);
  }
  std::map<std::string, Data> named;
  for (auto& [id, data] : values) named[model.tensors[id].name] = std::move(data);
  return named;
}

}  // namespace mpq::convert
