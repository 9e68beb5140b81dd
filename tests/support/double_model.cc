#include "tests/support/double_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "format/bits.h"

namespace mpq::test {
namespace {

using format::kNoTensor;
using format::Model;
using format::Node;
using format::TensorId;

constexpr double kUnit = 0x1p-24;  // half a unit in the last place of 1 in binary32
constexpr double kSlack = 1.01;    // terms of second order

struct Evaluation {
  const Model& model;
  const Node& node;
  const DoubleRun& run;
  const std::vector<DoubleTensor>& values;
  std::vector<std::vector<Interval>> outputs = {};

  TensorId operand(size_t i) const { return i < node.inputs.size() ? node.inputs[i] : kNoTensor; }
  const std::vector<double>& reals(size_t i) const { return values[node.inputs[i]].reals; }
  const std::vector<int64_t>& ints(size_t i) const { return values[node.inputs[i]].ints; }
  size_t width(TensorId id) const { return static_cast<size_t>(model.tensors[id].shape[1]); }

  // Codes as a matrix product wants them.
  static std::vector<int32_t> narrow(const std::vector<int64_t>& codes) {
    return {codes.begin(), codes.end()};
  }

  static Interval activate(format::Activation kind, const Interval& x) {
    const double v = x.value;
    // No derivative of the three is above 1.13.
    const double passed = 1.13 * x.tolerance;
    switch (kind) {
      case format::Activation::kNone:
        return x;
      case format::Activation::kGelu:
        return {v * 0.5 * std::erfc(-v / std::sqrt(2.0)),
                passed + 1e-7 * std::max(1.0, std::abs(v))};
      case format::Activation::kGeluTanh:
        return {
            0.5 * v *
                (1.0 + std::tanh(std::sqrt(2.0 / std::acos(-1.0)) * (v + 0.044715 * v * v * v))),
            passed + 1e-7 * std::max(1.0, std::abs(v))};
      case format::Activation::kTanh:
        return {std::tanh(v), passed + 1.3e-7};
    }
    return x;
  }

  // fma(x, scale, bias), rounded once.
  static Interval affine(const Interval& x, double scale, double bias) {
    const double v = x.value * scale + bias;
    return {v, std::abs(scale) * x.tolerance + kUnit * std::abs(v)};
  }

  void evaluate(const format::EmbeddingAttrs& a) {
    const TensorId words = node.inputs[format::kWords], types = operand(format::kTypes);
    const size_t n = width(words);
    size_t token = 0;
    outputs.resize(1);
    for (const uint32_t length : run.lengths)
      for (size_t position = 0; position < length; ++position, ++token)
        for (size_t i = 0; i < n; ++i) {
          const auto id = static_cast<size_t>(run.ids[token]);
          const double word = values[words].reals.empty()
                                  ? static_cast<double>(values[words].ints[id * n + i]) *
                                        reals(format::kWordScale)[id]
                                  : values[words].reals[id * n + i];
          const double place = reals(format::kPositions)[(a.position_offset + position) * n + i];
          const double type =
              types == kNoTensor
                  ? 0.0
                  : double{reals(format::kTypeRows)
                               [static_cast<size_t>(run.types.empty() ? 0 : run.types[token]) * n +
                                i]};
          outputs[0].push_back(
              {word + place + type,
               kUnit * (std::abs(word) + std::abs(word + place) + std::abs(word + place + type)) *
                   kSlack});
        }
  }

  void evaluate(const format::LayerNormAttrs& a) {
    const TensorId residual = operand(format::kNormResidual);
    const bool own = operand(format::kSecondGamma) != kNoTensor;
    const std::vector<double>& x = reals(0);
    const size_t n = width(node.outputs[0]);
    const auto size = static_cast<double>(n);
    const double sum_error =
        (size / 16.0 + 6.0) * kUnit;  // of sum16, relative to the sum of magnitudes
    outputs.resize(node.outputs.size());
    std::vector<double> v(n), error(n);
    for (size_t row = 0; row < x.size() / n; ++row) {
      double mean = 0.0, magnitude = 0.0;
      for (size_t i = 0; i < n; ++i) {
        v[i] = x[row * n + i];
        error[i] = 0.0;
        if (residual != kNoTensor) {
          v[i] += values[residual].reals[row * n + i];
          error[i] = kUnit * std::abs(v[i]);
        }
        mean += v[i];
        magnitude += std::abs(v[i]);
      }
      mean /= size;
      magnitude /= size;
      double square = 0.0, square_error = 0.0;
      for (size_t i = 0; i < n; ++i) {
        v[i] -= mean;
        error[i] += (sum_error + 2.0 * kUnit) * magnitude + kUnit * std::abs(v[i]);
        square += v[i] * v[i];
        square_error += 2.0 * std::abs(v[i]) * error[i];
      }
      const double variance = square / size + double{a.epsilon};
      const double r = 1.0 / std::sqrt(variance);
      const double r_error =
          0.5 * ((sum_error + 3.0 * kUnit) + square_error / size / variance) + 3.0 * kUnit;
      for (size_t i = 0; i < n; ++i) {
        const Interval z = {v[i] * r, r * error[i] + std::abs(v[i]) * r * (r_error + kUnit)};
        Interval y = affine(z, reals(format::kGamma)[i], reals(format::kBeta)[i]);
        y.tolerance *= kSlack;
        outputs[0].push_back(y);
        if (node.outputs.size() < 2) continue;
        Interval code =
            own ? affine(z, reals(format::kSecondGamma)[i], reals(format::kSecondBeta)[i])
                : affine(y, a.second_scale, a.second_bias);
        code.tolerance *= kSlack;
        outputs[1].push_back(code);
      }
    }
  }

  void evaluate(const format::LinearAttrs& a) {
    const format::Requant& q = a.requant;
    const std::vector<int32_t> x = narrow(ints(0)), w = narrow(ints(1));
    const TensorId bias = operand(4);
    const auto outs = static_cast<size_t>(model.tensors[node.inputs[1]].shape[0]),
               k = static_cast<size_t>(model.tensors[node.inputs[1]].shape[1]);
    outputs.resize(node.outputs.size());
    for (size_t m = 0; m < x.size() / k; ++m)
      for (size_t o = 0; o < outs; ++o) {
        int32_t dot = 0;  // the format's bound on sums holds
        const int32_t *p = &x[m * k], *r = &w[o * k];
        for (size_t i = 0; i < k; ++i) dot += p[i] * r[i];
        const double acc = double{static_cast<double>(dot)} +
                           (bias == kNoTensor ? 0.0 : static_cast<double>(values[bias].ints[o]));
        Interval v = affine({acc, kUnit * std::abs(acc)}, reals(2)[o], reals(3)[o]);
        if (q.activation != format::Activation::kNone)
          v = affine(activate(q.activation, v), q.activation_scale, q.activation_bias);
        v.tolerance *= kSlack;
        outputs[0].push_back(v);
        if (node.outputs.size() > 1) outputs[1].push_back(affine(v, q.second_scale, q.second_bias));
      }
  }

  void evaluate(const format::AttentionAttrs& a) {
    const size_t n = width(node.outputs[0]), size = n / a.heads;
    const std::vector<int32_t> x = narrow(ints(0));
    const TensorId bias = operand(format::kRelativeBias);
    const auto longest = static_cast<size_t>(model.sequence_length);
    outputs.assign(1, std::vector<Interval>(x.size() / 3));
    size_t start = 0;
    for (const uint32_t length : run.lengths) {
      const auto part = [&](size_t which, size_t token, size_t column) {
        return x[(start + token) * 3 * n + which * n + column] - 128;
      };
      std::vector<Interval> s(length);
      std::vector<double> p(length);
      for (size_t h = 0; h < a.heads; ++h)
        for (size_t i = 0; i < length; ++i) {
          double most = -HUGE_VAL, most_error = 0.0;
          for (size_t j = 0; j < length; ++j) {
            int32_t dot = 0;
            for (size_t c = h * size; c < (h + 1) * size; ++c) dot += part(0, i, c) * part(1, j, c);
            const double b = bias == kNoTensor
                                 ? 0.0
                                 : values[bias].reals[h * (2 * longest - 1) + j + longest - 1 - i];
            s[j] = affine({static_cast<double>(dot), 0.0}, reals(format::kScoreScale)[h], b);
            most = std::max(most, s[j].value);
            most_error = std::max(most_error, s[j].tolerance);
          }
          double total = 0.0, doubtful = 0.0;  // probabilities that may be rounded to either side
          for (size_t j = 0; j < length; ++j) {
            const double below = s[j].value - most, exact = 255.0 * std::exp(below);
            const double error =
                exact * (s[j].tolerance + most_error + 2.0 * kUnit * std::abs(below) + 4.5e-6) *
                    kSlack +
                255.0 * 0x1p-20;  // what is smaller still
            p[j] = std::nearbyint(exact);
            total += p[j];
            if (std::abs(exact - p[j]) + error >= 0.5) doubtful += 1.0;
          }
          const double scale = reals(format::kValueScale)[h] / total;
          for (size_t c = h * size; c < (h + 1) * size; ++c) {
            double acc = 0.0;
            for (size_t j = 0; j < length; ++j) acc += p[j] * part(2, j, c);
            Interval y = affine({acc, 2.0 * kUnit * std::abs(acc)}, scale, a.out_bias);
            // One more or less of a value in -128..127, and of the total.
            y.tolerance += doubtful * (128.0 + std::abs(acc / total)) * scale;
            y.tolerance *= kSlack;
            outputs[0][(start + i) * n + c] = y;
          }
        }
      start += length;
    }
  }

  void evaluate(const format::SequencePoolAttrs& a) {
    const size_t n = width(node.outputs[0]);
    const std::vector<double>& x = reals(0);
    outputs.resize(1);
    size_t start = 0;
    for (const uint32_t length : run.lengths) {
      const size_t at = outputs[0].size();
      double square = 0.0, square_error = 0.0;
      for (size_t i = 0; i < n; ++i) {
        Interval v = {x[start * n + i], 0.0};
        if (a.mode == format::SequencePoolAttrs::Mode::kMean) {
          double sum = 0.0, magnitude = 0.0;
          for (size_t t = start; t < start + length; ++t) {
            sum += x[t * n + i];
            magnitude += std::abs(x[t * n + i]);
          }
          v = {sum / length, kUnit * (length + 1.0) * magnitude / length};
        }
        square += v.value * v.value;
        square_error += 2.0 * std::abs(v.value) * v.tolerance;
        outputs[0].push_back(v);
      }
      start += length;
      if (!a.normalise) continue;
      const double norm = std::max(std::sqrt(square), 1e-12);
      const double error =
          0.5 * square_error / (norm * norm) + (static_cast<double>(n) / 32.0 + 8.0) * kUnit;
      for (size_t i = at; i < outputs[0].size(); ++i) {
        Interval& v = outputs[0][i];
        v = {v.value / norm, (v.tolerance / norm + std::abs(v.value / norm) * error) * kSlack};
      }
    }
  }

  template <typename Attrs>
  void evaluate(const Attrs&) {}  // of images; its outputs stay empty
};

template <typename Attrs>
CodeRange range_of(const Attrs& a, size_t output) {
  if constexpr (requires { a.requant; })
    return output == 0 ? CodeRange{double(a.requant.lo), double(a.requant.hi)}
                       : CodeRange{double(a.requant.second_lo), double(a.requant.second_hi)};
  else if constexpr (requires { a.second_lo; })
    return {double(a.second_lo), double(a.second_hi)};
  else if constexpr (requires { a.lo; })
    return {double(a.lo), double(a.hi)};
  else
    return {};
}

}  // namespace

std::vector<std::vector<Interval>> double_outputs(const Model& model, const Node& node,
                                                  const DoubleRun& run,
                                                  const std::vector<DoubleTensor>& values) {
  Evaluation evaluation = {model, node, run, values};
  std::visit([&](const auto& attrs) { evaluation.evaluate(attrs); }, node.attrs);
  return std::move(evaluation.outputs);
}

std::vector<DoubleTensor> double_constants(const Model& model) {
  std::vector<DoubleTensor> values(model.tensors.size());
  for (TensorId id = 0; id < model.tensors.size(); ++id) {
    const format::Tensor& t = model.tensors[id];
    if (!t.is_constant()) continue;
    size_t n = 1;
    for (const int64_t d : t.shape) n *= static_cast<size_t>(d);
    if (t.dtype == DType::kF32) {
      std::vector<float> reals(n);
      std::memcpy(reals.data(), t.data.data(), n * 4);
      values[id].reals.assign(reals.begin(), reals.end());
    } else if (t.dtype == DType::kS32) {
      std::vector<int32_t> sums(n);
      std::memcpy(sums.data(), t.data.data(), n * 4);
      values[id].ints.assign(sums.begin(), sums.end());
    } else {
      for (size_t i = 0; i < n; ++i)
        values[id].ints.push_back(
            format::get_code(t.data, i, bits_of(t.dtype), is_signed_code(t.dtype)));
    }
  }
  return values;
}

CodeRange code_range(const Node& node, size_t output) {
  return std::visit([&](const auto& attrs) { return range_of(attrs, output); }, node.attrs);
}

DoubleTensor rounded(const Model& model, const Node& node, size_t output,
                     const std::vector<Interval>& values) {
  DoubleTensor result;
  const bool codes = model.tensors[node.outputs[output]].dtype != DType::kF32;
  const CodeRange range = code_range(node, output);
  for (const Interval& v : values) {
    if (codes)
      result.ints.push_back(
          static_cast<int64_t>(std::nearbyint(std::clamp(v.value, range.lo, range.hi))));
    else
      result.reals.push_back(v.value);
  }
  return result;
}

}  // namespace mpq::test
