#include "tests/support/naive_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "format/bits.h"
#include "kernels/math/functions.h"
#include "kernels/math/lanes_scalar.h"

namespace mpq::test {
namespace {

using format::kNoTensor;
using format::Model;
using format::Node;
using format::TensorId;

int64_t round_half_even(float value) {
  const double v = value;  // exact
  const double below = std::floor(v);
  const double rest = v - below;
  const bool up = rest > 0.5 || (rest == 0.5 && std::fmod(below, 2.0) != 0.0);
  return static_cast<int64_t>(up ? below + 1 : below);
}

int64_t to_code(float v, int64_t lo, int64_t hi) {
  if (!(v > -1e9F)) return lo;
  if (v > 1e9F) return hi;
  return std::clamp(round_half_even(v), lo, hi);
}

using Real = kernels::ScalarLanes;  // exp, GELU and tanh are defined there, and nowhere else

// Lane i of 16 adds the terms i, i + 16, ...; then halves are added.
template <typename Add>
float sum16(size_t count, Add add) {
  std::vector<float> lanes(16, 0.0F);
  for (size_t i = 0; i < count; ++i) lanes[i % 16] = add(i, lanes[i % 16]);
  for (; lanes.size() > 1; lanes.resize(lanes.size() / 2))
    for (size_t i = 0; i < lanes.size() / 2; ++i) lanes[i] += lanes[i + lanes.size() / 2];
  return lanes[0];
}

struct Interpreter {
  const Model& model;
  std::vector<NaiveTensor> values;
  std::vector<uint32_t> lengths = {};  // of sequences

  const format::Tensor& tensor(TensorId id) const { return model.tensors[id]; }
  int64_t dim(TensorId id, size_t i) const {
    return i < tensor(id).shape.size() ? tensor(id).shape[i] : 1;
  }
  size_t count(TensorId id) const {
    int64_t n = 1;
    for (const int64_t d : tensor(id).shape) n *= d;
    return static_cast<size_t>(n);
  }

  void load_constant(TensorId id) {
    const format::Tensor& t = tensor(id);
    NaiveTensor& v = values[id];
    const size_t n = count(id);
    if (t.dtype == DType::kF32) {
      v.reals.resize(n);
      std::memcpy(v.reals.data(), t.data.data(), n * 4);
    } else if (t.dtype == DType::kS32) {
      std::vector<int32_t> sums(n);
      std::memcpy(sums.data(), t.data.data(), n * 4);
      v.ints.assign(sums.begin(), sums.end());
    } else {
      for (size_t i = 0; i < n; ++i)
        v.ints.push_back(format::get_code(t.data, i, bits_of(t.dtype), is_signed_code(t.dtype)));
    }
  }

  void load_input(TensorId id, const std::vector<std::byte>& bytes) {
    NaiveTensor& v = values[id];
    if (tensor(id).dtype == DType::kF32) {
      v.reals.resize(count(id));
      std::memcpy(v.reals.data(), bytes.data(), v.reals.size() * 4);
    } else {
      for (const std::byte b : bytes)
        v.ints.push_back(
            std::min<int64_t>(std::to_integer<int64_t>(b), max_code(tensor(id).dtype)));
    }
  }

  TensorId operand(const Node& n, size_t i) const {
    return i < n.inputs.size() ? n.inputs[i] : kNoTensor;
  }

  // The epilogue of element `at`, channel c of a node with a Requant.
  void finish(const Node& n, const format::Requant& q, size_t at, size_t c, int64_t acc) {
    const TensorId y = n.outputs[0], bias = operand(n, 4), residual = operand(n, 5);
    if (bias != kNoTensor) acc += values[bias].ints[c];
    if (tensor(y).dtype == DType::kS32) {
      values[y].ints[at] = acc;
      return;
    }
    const int64_t r =
        residual == kNoTensor ? 0 : values[residual].ints[at] - tensor(residual).quant.zero_point;
    if (residual != kNoTensor && q.residual_shift >= 0) {
      const int64_t p = r * values[n.inputs[6]].ints[c];
      const int64_t magnitude =
          (std::abs(p) + ((int64_t{1} << q.residual_shift) >> 1)) >> q.residual_shift;
      acc += p < 0 ? -magnitude : magnitude;
    }
    float v = std::fma(static_cast<float>(acc), values[n.inputs[2]].reals[c],
                       values[n.inputs[3]].reals[c]);
    if (residual != kNoTensor && q.residual_shift < 0)
      v = std::fma(static_cast<float>(r), q.residual_scale, v);
    if (q.activation != format::Activation::kNone) {
      v = q.activation == format::Activation::kGelu       ? kernels::gelu<Real>(v)
          : q.activation == format::Activation::kGeluTanh ? kernels::gelu_tanh<Real>(v)
                                                          : kernels::tanh_of<Real>(v);
      v = std::fma(v, q.activation_scale, q.activation_bias);
    }
    if (tensor(y).dtype == DType::kF32)
      values[y].reals[at] = v;
    else
      values[y].ints[at] = to_code(v, q.lo, q.hi);
    if (n.outputs.size() > 1)
      values[n.outputs[1]].ints[at] =
          to_code(std::fma(v, q.second_scale, q.second_bias), q.second_lo, q.second_hi);
  }

  void run(const Node& n, const format::ImageQuantizeAttrs&) {
    const TensorId x = n.inputs[0], y = n.outputs[0];
    const int64_t channels = dim(y, 1), pixels = dim(y, 2) * dim(y, 3);
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t i = 0; i < pixels; ++i)
        values[y].ints[static_cast<size_t>(c * pixels + i)] =
            values[n.inputs[1]].ints[static_cast<size_t>(
                c * 256 + values[x].ints[static_cast<size_t>(i * channels + c)])];
  }

  void run(const Node& n, const format::QuantizeAttrs&) {
    const format::Tensor& y = tensor(n.outputs[0]);
    for (size_t i = 0; i < count(n.outputs[0]); ++i) {
      const float v = values[n.inputs[0]].reals[i] / y.quant.scale;
      const int64_t lo = -y.quant.zero_point, hi = max_code(y.dtype) - y.quant.zero_point;
      values[n.outputs[0]].ints[i] = to_code(v, lo, hi) + y.quant.zero_point;
    }
  }

  void run(const Node& n, const format::Conv2dAttrs& a) {
    const TensorId x = n.inputs[0], w = n.inputs[1], y = n.outputs[0];
    const int64_t h = dim(x, 2), width = dim(x, 3), oh = dim(y, 2), ow = dim(y, 3),
                  channels = dim(y, 1);
    const int64_t group_in = dim(w, 1), group_out = channels / a.groups, r_count = dim(w, 2),
                  s_count = dim(w, 3);
    for (int64_t o = 0; o < channels; ++o)
      for (int64_t i = 0; i < oh; ++i)
        for (int64_t j = 0; j < ow; ++j) {
          int64_t acc = 0;
          for (int64_t c = 0; c < group_in; ++c)
            for (int64_t r = 0; r < r_count; ++r)
              for (int64_t s = 0; s < s_count; ++s) {
                const int64_t row = i * a.stride_h + r * a.dilation_h - a.pad_top;
                const int64_t column = j * a.stride_w + s * a.dilation_w - a.pad_left;
                const bool inside = row >= 0 && row < h && column >= 0 && column < width;
                const int64_t channel = o / group_out * group_in + c;
                const int64_t code =
                    inside
                        ? values[x].ints[static_cast<size_t>((channel * h + row) * width + column)]
                        : tensor(x).quant.zero_point;
                acc += code * values[w].ints[static_cast<size_t>(
                                  ((o * group_in + c) * r_count + r) * s_count + s)];
              }
          finish(n, a.requant, static_cast<size_t>((o * oh + i) * ow + j), static_cast<size_t>(o),
                 acc);
        }
  }

  void run(const Node& n, const format::LinearAttrs& a) {
    const TensorId x = n.inputs[0], w = n.inputs[1];
    const auto outs = static_cast<size_t>(dim(w, 0)), k = static_cast<size_t>(dim(w, 1)),
               rows = count(x) / k;
    for (size_t m = 0; m < rows; ++m)
      for (size_t o = 0; o < outs; ++o) {
        int64_t acc = 0;
        for (size_t i = 0; i < k; ++i) acc += values[x].ints[m * k + i] * values[w].ints[o * k + i];
        finish(n, a.requant, m * outs + o, o, acc);
      }
  }

  // Calls visit(output index, window's codes) for windows clipped to the image.
  template <typename Visit>
  void windows(const Node& n, int64_t kh, int64_t kw, int64_t sh, int64_t sw, int64_t top,
               int64_t left, Visit visit) {
    const TensorId x = n.inputs[0], y = n.outputs[0];
    const int64_t h = dim(x, 2), w = dim(x, 3), oh = dim(y, 2), ow = dim(y, 3);
    for (int64_t c = 0; c < dim(y, 1); ++c)
      for (int64_t i = 0; i < oh; ++i)
        for (int64_t j = 0; j < ow; ++j) {
          std::vector<int64_t> codes;
          for (int64_t r = i * sh - top; r < i * sh - top + kh; ++r)
            for (int64_t s = j * sw - left; s < j * sw - left + kw; ++s)
              if (r >= 0 && r < h && s >= 0 && s < w)
                codes.push_back(values[x].ints[static_cast<size_t>((c * h + r) * w + s)]);
          visit(static_cast<size_t>((c * oh + i) * ow + j), codes);
        }
  }

  void run(const Node& n, const format::MaxPoolAttrs& a) {
    windows(n, a.kernel_h, a.kernel_w, a.stride_h, a.stride_w, a.pad_top, a.pad_left,
            [&](size_t at, const std::vector<int64_t>& codes) {
              values[n.outputs[0]].ints[at] =
                  codes.empty() ? 0 : *std::max_element(codes.begin(), codes.end());
            });
  }

  void run(const Node& n, const format::AvgPoolAttrs& a) {
    const TensorId x = n.inputs[0], y = n.outputs[0];
    const int64_t kh = a.kernel_h != 0 ? a.kernel_h : dim(x, 2),
                  kw = a.kernel_w != 0 ? a.kernel_w : dim(x, 3);
    windows(n, kh, kw, a.stride_h, a.stride_w, 0, 0,
            [&](size_t at, const std::vector<int64_t>& codes) {
              int64_t sum = 0;
              for (const int64_t code : codes) sum += code - tensor(x).quant.zero_point;
              const float v = std::fma(static_cast<float>(sum), a.multiplier, a.bias);
              if (tensor(y).dtype == DType::kF32)
                values[y].reals[at] = v;
              else
                values[y].ints[at] = to_code(v, a.lo, a.hi);
            });
  }

  void run(const Node& n, const format::EmbeddingAttrs& a) {
    const TensorId words = n.inputs[format::kWords], types = operand(n, format::kTypes);
    const auto width = static_cast<size_t>(dim(words, 1));
    size_t token = 0;
    for (const uint32_t length : lengths)
      for (size_t position = 0; position < length; ++position, ++token)
        for (size_t i = 0; i < width; ++i) {
          const auto id = static_cast<size_t>(values[n.inputs[format::kIds]].ints[token]);
          const size_t word = id * width + i;
          float v = is_code(tensor(words).dtype)
                        ? static_cast<float>(values[words].ints[word]) *
                              values[n.inputs[format::kWordScale]].reals[id]
                        : values[words].reals[word];
          v += values[n.inputs[format::kPositions]]
                   .reals[(a.position_offset + position) * width + i];
          if (types != kNoTensor)
            v += values[n.inputs[format::kTypeRows]]
                     .reals[static_cast<size_t>(values[types].ints[token]) * width + i];
          values[n.outputs[0]].reals[token * width + i] = v;
        }
  }

  void run(const Node& n, const format::LayerNormAttrs& a) {
    const TensorId residual = operand(n, format::kNormResidual), y = n.outputs[0];
    const auto width = static_cast<size_t>(dim(y, 1));
    const auto size = static_cast<float>(width);
    for (size_t row = 0; row < count(y) / width; ++row) {
      std::vector<float> v(width);
      for (size_t i = 0; i < width; ++i) {
        v[i] = values[n.inputs[0]].reals[row * width + i];
        if (residual != kNoTensor) v[i] += values[residual].reals[row * width + i];
      }
      const float mean = sum16(width, [&](size_t i, float lane) { return lane + v[i]; }) / size;
      for (float& x : v) x -= mean;
      const float squares =
          sum16(width, [&](size_t i, float lane) { return std::fma(v[i], v[i], lane); });
      const float scale = 1.0F / std::sqrt(squares / size + a.epsilon);
      for (size_t i = 0; i < width; ++i) {
        const float z = std::fma(v[i] * scale, values[n.inputs[format::kGamma]].reals[i],
                                 values[n.inputs[format::kBeta]].reals[i]);
        values[y].reals[row * width + i] = z;
        if (n.outputs.size() < 2) continue;
        const TensorId gamma = operand(n, format::kSecondGamma);
        const float second = gamma == kNoTensor
                                 ? std::fma(z, a.second_scale, a.second_bias)
                                 : std::fma(v[i] * scale, values[gamma].reals[i],
                                            values[n.inputs[format::kSecondBeta]].reals[i]);
        values[n.outputs[1]].ints[row * width + i] = to_code(second, a.second_lo, a.second_hi);
      }
    }
  }

  void run(const Node& n, const format::AttentionAttrs& a) {
    const auto width = static_cast<size_t>(dim(n.outputs[0], 1)), size = width / a.heads;
    const TensorId bias = operand(n, format::kRelativeBias);
    const auto s_max = static_cast<size_t>(model.sequence_length);
    size_t start = 0;
    for (const uint32_t length : lengths) {
      const auto part = [&](size_t which, size_t token, size_t column) {
        return values[n.inputs[0]].ints[(start + token) * 3 * width + which * width + column] - 128;
      };
      for (size_t h = 0; h < a.heads; ++h)
        for (size_t i = 0; i < length; ++i) {
          std::vector<float> s(length);
          for (size_t j = 0; j < length; ++j) {
            int64_t dot = 0;
            for (size_t c = h * size; c < (h + 1) * size; ++c) dot += part(0, i, c) * part(1, j, c);
            const float b = bias == kNoTensor
                                ? 0.0F
                                : values[bias].reals[h * (2 * s_max - 1) + j + s_max - 1 - i];
            s[j] = std::fma(static_cast<float>(dot), values[n.inputs[format::kScoreScale]].reals[h],
                            b);
          }
          const float largest = *std::max_element(s.begin(), s.end());
          std::vector<int64_t> p(length);
          int64_t total = 0;
          for (size_t j = 0; j < length; ++j) {
            p[j] = round_half_even(kernels::parts_of_255<Real>(s[j] - largest));
            total += p[j];
          }
          const float scale =
              values[n.inputs[format::kValueScale]].reals[h] / static_cast<float>(total);
          for (size_t c = h * size; c < (h + 1) * size; ++c) {
            int64_t acc = 0;
            for (size_t j = 0; j < length; ++j) acc += p[j] * part(2, j, c);
            values[n.outputs[0]].ints[(start + i) * width + c] =
                to_code(std::fma(static_cast<float>(acc), scale, a.out_bias), a.lo, a.hi);
          }
        }
      start += length;
    }
  }

  void run(const Node& n, const format::SequencePoolAttrs& a) {
    const auto width = static_cast<size_t>(dim(n.outputs[0], 1));
    const std::vector<float>& x = values[n.inputs[0]].reals;
    std::vector<float>& y = values[n.outputs[0]].reals;
    size_t start = 0;
    for (size_t s = 0; s < lengths.size(); start += lengths[s], ++s) {
      for (size_t i = 0; i < width; ++i) {
        float v = x[start * width + i];
        if (a.mode == format::SequencePoolAttrs::Mode::kMean) {
          v = 0.0F;
          for (size_t t = start; t < start + lengths[s]; ++t) v += x[t * width + i];
          v /= static_cast<float>(lengths[s]);
        }
        y[s * width + i] = v;
      }
      if (!a.normalise) continue;
      const auto square = [&](size_t i, float lane) {
        return std::fma(y[s * width + i], y[s * width + i], lane);
      };
      const float norm = std::max(std::sqrt(sum16(width, square)), 1e-12F);
      for (size_t i = 0; i < width; ++i) y[s * width + i] /= norm;
    }
  }

  void run(const Node& n, const format::AddAttrs& a) {
    const TensorId x = n.inputs[0], z = n.inputs[1];
    for (size_t i = 0; i < count(x); ++i) {
      const auto p = static_cast<float>(values[x].ints[i] - tensor(x).quant.zero_point);
      const auto q = static_cast<float>(values[z].ints[i] - tensor(z).quant.zero_point);
      const float v = std::fma(p, a.scale_a, std::fma(q, a.scale_b, a.bias));
      values[n.outputs[0]].ints[i] = to_code(v, a.lo, a.hi);
      if (n.outputs.size() > 1)
        values[n.outputs[1]].ints[i] =
            to_code(std::fma(v, a.second_scale, a.second_bias), a.second_lo, a.second_hi);
    }
  }
};

}  // namespace

std::vector<NaiveTensor> naive_run(const Model& model,
                                   const std::vector<std::vector<std::byte>>& inputs) {
  Interpreter run = {model, std::vector<NaiveTensor>(model.tensors.size())};
  for (TensorId id = 0; id < model.tensors.size(); ++id) {
    if (model.tensors[id].is_constant())
      run.load_constant(id);
    else if (model.tensors[id].dtype == DType::kF32)
      run.values[id].reals.resize(run.count(id));
    else if (std::find(model.inputs.begin(), model.inputs.end(), id) == model.inputs.end())
      run.values[id].ints.resize(run.count(id));
  }
  for (size_t i = 0; i < inputs.size(); ++i) run.load_input(model.inputs[i], inputs[i]);
  for (const Node& n : model.nodes)
    std::visit([&](const auto& attrs) { run.run(n, attrs); }, n.attrs);
  return std::move(run.values);
}

std::vector<NaiveTensor> naive_run(const Model& original, const std::vector<int32_t>& ids,
                                   const std::vector<int32_t>& types,
                                   const std::vector<uint32_t>& lengths) {
  Model model = original;
  std::vector<bool> pooled(model.tensors.size());
  for (const Node& n : model.nodes)
    for (const TensorId id : n.outputs)
      pooled[id] = pooled[n.inputs[0]] || n.op() == format::OpCode::kSequencePool;
  Interpreter run = {model, std::vector<NaiveTensor>(model.tensors.size()), lengths};
  for (TensorId id = 0; id < model.tensors.size(); ++id) {
    format::Tensor& t = model.tensors[id];
    if (t.is_constant()) {
      run.load_constant(id);
      continue;
    }
    t.shape[0] = static_cast<int64_t>(pooled[id] ? lengths.size() : ids.size());
    if (t.dtype == DType::kF32)
      run.values[id].reals.resize(run.count(id));
    else
      run.values[id].ints.resize(run.count(id));
  }
  for (const Node& n : model.nodes) {
    if (n.op() != format::OpCode::kEmbedding) continue;
    run.values[n.inputs[format::kIds]].ints.assign(ids.begin(), ids.end());
    if (!types.empty())
      run.values[n.inputs[format::kTypes]].ints.assign(types.begin(), types.end());
  }
  for (const Node& n : model.nodes)
    std::visit([&](const auto& attrs) { run.run(n, attrs); }, n.attrs);
  return std::move(run.values);
}

std::vector<std::byte> api_bytes(const format::Tensor& tensor, const NaiveTensor& value) {
  std::vector<std::byte> bytes;
  if (tensor.dtype == DType::kF32) {
    bytes.resize(value.reals.size() * 4);
    std::memcpy(bytes.data(), value.reals.data(), bytes.size());
  } else if (tensor.dtype == DType::kS32) {
    const std::vector<int32_t> sums(value.ints.begin(), value.ints.end());
    bytes.resize(sums.size() * 4);
    std::memcpy(bytes.data(), sums.data(), bytes.size());
  } else {
    for (const int64_t code : value.ints) bytes.push_back(static_cast<std::byte>(code));
  }
  return bytes;
}

}  // namespace mpq::test
