#include <algorithm>
#include <cmath>

#include "converter/lower_emit.h"
#include "format/bits.h"

namespace mpq::convert::lowering {

Checked Lowering::max_pool(const Node& node) {
  const auto x = codes_.find(node.inputs[0]);
  if (x == codes_.end())
    return error(node.name,
                 "max pool reads values that are not quantised; put a FakeQuant before it");
  const auto& p = std::get<MaxPool>(node.op);
  const Codes in = x->second;
  const TensorId y = add_codes(node.output, in.grid, shape_of(node.output));
  add_node(node.name,
           format::MaxPoolAttrs{p.kernel_h, p.kernel_w, p.stride_h, p.stride_w, p.pad_top,
                                p.pad_left, p.pad_bottom, p.pad_right},
           {in.tensor}, {y});
  return Ok{};
}

// As an addition of two halves: v = (code - zero) * (s_in / s_out) + zero point.
void Lowering::requantise(const Node& quant, const Codes& in, const Grid& grid, int32_t lo,
                          int32_t hi) {
  format::AddAttrs a;
  a.scale_a = a.scale_b = static_cast<float>(0.5 * in.grid.scale / grid.scale);
  a.bias = static_cast<float>(grid.zero_point);
  a.lo = lo;
  a.hi = hi;
  const TensorId y = add_codes(quant.output, grid, out_.model.tensors[in.tensor].shape);
  add_node(quant.name, a, {in.tensor, in.tensor}, {y});
}

// code = table[channel][pixel], by the preprocessing in binary32 and then the grid.
Checked Lowering::image_table(const Node& quant, TensorId pixels, const Grid& grid, int32_t lo,
                              int32_t hi) {
  std::vector<uint8_t> table;
  const auto scale = static_cast<float>(grid.scale);
  for (size_t c = 0; c < 3; ++c)
    for (int pixel = 0; pixel < 256; ++pixel) {
      const float x =
          (static_cast<float>(pixel) / 255.0F - options_.image.mean[c]) / options_.image.stddev[c];
      const float code = std::nearbyint(x / scale) + static_cast<float>(grid.zero_point);
      table.push_back(
          static_cast<uint8_t>(std::clamp(code, static_cast<float>(lo), static_cast<float>(hi))));
    }
  const TensorId y = add_codes(quant.output, grid, shape_of(graph_.inputs[0]));
  const TensorId t = add_constant(quant.name + ".table", DType::kU8, {3, 256}, table);
  add_node(quant.name, format::ImageQuantizeAttrs{}, {pixels, t}, {y});
  return Ok{};
}

Checked Lowering::add(const Node& node, const Chain& chain, const Grids& grids) {
  const Codes a = codes_.at(node.inputs[0]);
  const Codes b = codes_.at(node.inputs[1]);
  const Grid& y = grids[0].second;
  format::AddAttrs attrs;
  attrs.scale_a = static_cast<float>(a.grid.scale / y.scale);
  attrs.scale_b = static_cast<float>(b.grid.scale / y.scale);
  attrs.bias = static_cast<float>(y.zero_point);
  set_outputs(chain, grids, &attrs);
  const std::vector<TensorId> outputs = output_tensors(node, grids);
  add_node(node.name, attrs, {a.tensor, b.tensor}, outputs);
  return Ok{};
}

Checked Lowering::avg_pool(const Node& node, const AvgPool& pool, const Chain* chain,
                           const Grids& grids) {
  const auto x = codes_.find(node.inputs[0]);
  if (x == codes_.end())
    return error(node.name,
                 "average pool reads values that are not quantised; put a FakeQuant "
                 "before it");
  const Codes in = x->second;
  const Shape& shape = graph_.values[node.inputs[0]].shape;
  const auto area = static_cast<double>(
      pool.kernel_h == 0 ? shape[2] * shape[3] : int64_t{pool.kernel_h} * pool.kernel_w);
  format::AvgPoolAttrs a{pool.kernel_h, pool.kernel_w, pool.stride_h, pool.stride_w};
  const double scale = grids.empty() ? 1.0 : grids[0].second.scale;
  a.multiplier = static_cast<float>(in.grid.scale / (area * scale));
  std::vector<TensorId> outputs;
  if (grids.empty()) {
    outputs.push_back(add_real(node.output));
  } else {
    a.bias = static_cast<float>(grids[0].second.zero_point);
    std::tie(a.lo, a.hi) = clipped(grids[0].second, *chain);
    outputs = output_tensors(node, grids);
  }
  add_node(node.name, a, {in.tensor}, outputs);
  return Ok{};
}

Result<Lowering::Codes> Lowering::layer_input(const Node& node) const {
  if (!node.weight_quant)
    return error(node.name,
                 "its weights are not quantised; run quantize, or import integer weights");
  const auto x = codes_.find(node.inputs[0]);
  if (x == codes_.end())
    return error(node.name, "its input is not quantised; put a FakeQuant before it");
  return x->second;
}

Lowering::Epilogue Lowering::epilogue(const Node& node, const Grid& in,
                                      std::span<const double> out_scales, double out_zero,
                                      bool sums) const {
  const auto channels = static_cast<size_t>(graph_.values[node.inputs[1]].shape[0]);
  const std::vector<float>& scales = node.weight_quant->spec.scale;
  const size_t per_channel = node.weight_quant->codes.size() / channels;
  const bool has_bias = node.inputs.size() > 2 && node.inputs[2] != kNoValue;
  Epilogue e{std::vector<float>(channels), std::vector<float>(channels),
             std::vector<int32_t>(channels)};
  for (size_t c = 0; c < channels; ++c) {
    const double scale = double{scales[scales.size() == 1 ? 0 : c]} * in.scale;
    const double out_scale = out_scales[out_scales.size() == 1 ? 0 : c];
    const double b = has_bias ? graph_.values[node.inputs[2]].data[c] : 0.0;
    e.multiplier[c] = static_cast<float>(scale / out_scale);
    e.bias[c] = static_cast<float>(b / out_scale + out_zero);
    int64_t sum = 0;
    for (size_t k = 0; k < per_channel; ++k) sum += node.weight_quant->codes[c * per_channel + k];
    e.acc_bias[c] = static_cast<int32_t>(-in.zero_point * sum);
    if (sums) e.acc_bias[c] += static_cast<int32_t>(std::nearbyint(b / scale));
  }
  return e;
}

// The operands up to acc_bias, which is absent when it is 0 everywhere.
std::vector<TensorId> Lowering::layer_inputs(const std::string& name, TensorId x, TensorId weights,
                                             const Epilogue& e) {
  const Shape shape{static_cast<int64_t>(e.bias.size())};
  std::vector<TensorId> inputs = {
      x, weights, add_constant(name + ".multiplier", DType::kF32, shape, e.multiplier),
      add_constant(name + ".bias", DType::kF32, shape, e.bias)};
  if (std::any_of(e.acc_bias.begin(), e.acc_bias.end(), [](int32_t b) { return b != 0; }))
    inputs.push_back(add_constant(name + ".acc_bias", DType::kS32, shape, e.acc_bias));
  return inputs;
}

Checked Lowering::matrix(const Node& node, const Chain& chain, const Grids& grids, DType out) {
  MPQ_TRY(const Codes in, layer_input(node));
  MPQ_TRY(const TensorId w, weight_tensor(node, graph_.values[node.inputs[1]]));

  // An activation function takes real numbers, and is scaled behind it.
  const bool real = chain.activation != format::Activation::kNone || grids.empty();
  const double out_scale = grids.empty() ? 1.0 : grids[0].second.scale;
  const int32_t out_zero = grids.empty() ? 0 : grids[0].second.zero_point;
  const double sum_scale = real ? 1.0 : out_scale;
  std::vector<TensorId> inputs = layer_inputs(
      node.name, in.tensor, w,
      epilogue(node, in.grid, {&sum_scale, 1}, real ? 0.0 : out_zero, out == DType::kS32));
  format::Requant requant;
  requant.activation = chain.activation;
  if (chain.activation != format::Activation::kNone) {
    requant.activation_scale = static_cast<float>(1.0 / out_scale);
    requant.activation_bias = static_cast<float>(out_zero);
  }
  if (chain.residual != kNoValue) {
    const Codes residual = codes_.at(chain.residual);
    inputs.resize(format::kResidual, format::kNoTensor);
    inputs.push_back(residual.tensor);
    requant.residual_scale = static_cast<float>(residual.grid.scale / sum_scale);
  }
  std::vector<TensorId> outputs;
  if (grids.empty()) {
    const Value& y = graph_.values[node.output];
    outputs.push_back(add_tensor(y.name, out, y.shape));
  } else {
    set_outputs(chain, grids, &requant);
    outputs = output_tensors(node, grids);
  }
  if (const auto* c = std::get_if<Conv>(&node.op)) {
    add_node(node.name,
             format::Conv2dAttrs{c->stride_h, c->stride_w, c->pad_top, c->pad_left, c->pad_bottom,
                                 c->pad_right, c->dilation_h, c->dilation_w, c->groups, requant},
             inputs, outputs);
  } else {
    add_node(node.name, format::LinearAttrs{requant}, inputs, outputs);
  }
  add_map_layer(node.weight_quant->spec.bits, in.grid);
  return Ok{};
}

Checked Lowering::check_weights(const Node& node, const Value& weights) const {
  const WeightQuant& q = *node.weight_quant;
  uint64_t elements = 0;
  if (weights.shape.empty() || !checked_elements(weights.shape, &elements) || elements == 0 ||
      elements != q.codes.size())
    return error(node.name, std::to_string(q.codes.size()) + " weight codes for shape " +
                                to_string(weights.shape));
  if (q.spec.bits != 8 && q.spec.bits != 4 && q.spec.bits != 2)
    return error(node.name, "weight bits " + std::to_string(q.spec.bits) +
                                " not in {2,4,8}; requantise the weights");
  if (!q.spec.is_signed || q.spec.zero_point != 0)
    return error(node.name, "weights must be signed with zero point 0; requantise them");
  if (q.spec.scale.size() != 1 && q.spec.scale.size() != static_cast<size_t>(weights.shape[0]))
    return error(node.name, std::to_string(q.spec.scale.size()) + " weight scales for " +
                                std::to_string(weights.shape[0]) + " output channels");
  const DType type = signed_code(q.spec.bits);
  for (uint64_t i = 0; i < elements; ++i)
    if (q.codes[i] < min_code(type) || q.codes[i] > max_code(type))
      return error(node.name, "weight code " + std::to_string(q.codes[i]) + " at " +
                                  std::to_string(i) + " does not fit " + to_string(type));
  return Ok{};
}

Result<TensorId> Lowering::weight_tensor(const Node& node, const Value& weights) {
  MPQ_CHECK(check_weights(node, weights));
  const WeightQuant& q = *node.weight_quant;
  std::vector<std::byte> bytes(format::packed_bytes(q.codes.size(), q.spec.bits));
  for (uint64_t i = 0; i < q.codes.size(); ++i) format::set_code(bytes, i, q.spec.bits, q.codes[i]);
  return add_bytes(weights.name, signed_code(q.spec.bits), weights.shape, std::move(bytes));
}

}  // namespace mpq::convert::lowering
