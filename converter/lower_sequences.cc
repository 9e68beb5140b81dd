#include <algorithm>
#include <cmath>

#include "converter/lower_emit.h"
#include "format/bits.h"

namespace mpq::convert::lowering {
namespace {

constexpr int32_t kMiddle = 128;  // zero point of the codes that attention reads

}  // namespace

bool Lowering::feeds_attention(ValueId value) const {
  const std::vector<uint32_t> readers = consumers(graph_, value);
  return std::any_of(readers.begin(), readers.end(), [&](uint32_t i) {
    const Node& node = graph_.nodes[i];
    return std::holds_alternative<Attention>(node.op) &&
           std::find(node.inputs.begin(), node.inputs.begin() + 3, value) !=
               node.inputs.begin() + 3;
  });
}

Checked Lowering::embedding(const Node& node) {
  const auto input = [&](size_t i) { return i < node.inputs.size() ? node.inputs[i] : kNoValue; };
  const auto index = [&](ValueId value) {
    return value == kNoValue ? format::kNoTensor : inputs_.at(value);
  };
  std::vector<TensorId> inputs(format::kTypeRows + 1, format::kNoTensor);
  for (const ValueId value : activations(node))
    if (inputs_.find(value) == inputs_.end())
      return error(node.name, "its indices are no input of the network");
  inputs[format::kIds] = index(input(0));
  inputs[format::kTypes] = index(input(1));
  const Value& words = graph_.values[input(2)];
  if (node.weight_quant) {
    const QuantSpec& spec = node.weight_quant->spec;
    if (spec.bits != 8)
      return error(node.name, std::to_string(spec.bits) + " bit words; words have 8 bit or float");
    MPQ_TRY(inputs[format::kWords], weight_tensor(node, words));
    std::vector<float> scale = spec.scale;
    if (scale.size() == 1) scale.assign(static_cast<size_t>(words.shape[0]), scale[0]);
    inputs[format::kWordScale] =
        add_constant(words.name + ".scale", DType::kF32, {words.shape[0]}, scale);
  } else {
    inputs[format::kWords] = add_floats(input(2));
  }
  inputs[format::kPositions] = add_floats(input(3));
  if (input(4) == kNoValue)
    inputs.pop_back();
  else
    inputs[format::kTypeRows] = add_floats(input(4));
  const format::EmbeddingAttrs attrs{std::get<Embedding>(node.op).first_position};
  add_node(node.name, attrs, inputs, {add_real(node.output)});
  return Ok{};
}

// A normalisation of the same rows with other factors that is only read as codes of one grid: the
// second output of this one may be it. Null: none.
const Node* Lowering::twin_of(const Node& norm) const {
  for (const uint32_t i : consumers(graph_, norm.inputs[0])) {
    const Node& other = graph_.nodes[i];
    const auto* const op = std::get_if<LayerNorm>(&other.op);
    if (op == nullptr || &other == &norm || fused_.count(&other) != 0 ||
        reals_.count(other.output) != 0 || op->epsilon != std::get<LayerNorm>(norm.op).epsilon ||
        std::count(graph_.outputs.begin(), graph_.outputs.end(), other.output) != 0)
      continue;
    const std::vector<const Node*> quants = quantisers(other.output);
    std::map<const Node*, const Node*> same;
    const auto grids = grids_of(quants, &same);
    if (grids.ok() && grids->size() == 1 && quants.size() == consumers(graph_, other.output).size())
      return &other;
  }
  return nullptr;
}

// With the addition before it, and the codes of its readers as a second output.
Checked Lowering::layer_norm(const Node& node) {
  if (fused_.count(&node) != 0) return Ok{};
  const ValueId x = node.inputs[0];
  std::vector<TensorId> inputs;
  const int p = producer(graph_, x);
  const Node* const before = p < 0 ? nullptr : &graph_.nodes[static_cast<size_t>(p)];
  if (before != nullptr && std::holds_alternative<Add>(before->op) && reals_.count(x) == 0) {
    for (const ValueId operand : before->inputs) {
      MPQ_TRY(const TensorId tensor, real_value(operand));
      inputs.push_back(tensor);
    }
  } else {
    MPQ_TRY(const TensorId tensor, real_value(x));
    inputs = {tensor, format::kNoTensor};
  }
  for (const size_t i : {1, 2}) inputs.push_back(add_floats(node.inputs[i]));

  format::LayerNormAttrs attrs;
  attrs.epsilon = std::get<LayerNorm>(node.op).epsilon;
  std::vector<TensorId> outputs = {add_real(node.output)};
  std::map<const Node*, const Node*> same;
  MPQ_TRY(Grids grids, grids_of(quantisers(node.output), &same));
  const Node* const twin = grids.empty() ? twin_of(node) : nullptr;
  if (twin != nullptr) {
    fused_.insert(twin);
    MPQ_TRY(grids, grids_of(quantisers(twin->output), &same));
    const Grid& grid = grids[0].second;
    std::vector<float> gamma, beta;
    for (const float g : graph_.values[twin->inputs[1]].data)
      gamma.push_back(static_cast<float>(g / grid.scale));
    for (const float b : graph_.values[twin->inputs[2]].data)
      beta.push_back(static_cast<float>(b / grid.scale + grid.zero_point));
    const Shape shape = shape_of(twin->inputs[1]);
    inputs.push_back(add_constant(node.name + ".second_gamma", DType::kF32, shape, gamma));
    inputs.push_back(add_constant(node.name + ".second_beta", DType::kF32, shape, beta));
    std::tie(attrs.second_lo, attrs.second_hi) = clipped(grid, {});
  } else if (!grids.empty()) {
    set_second(grids[0].second, 1.0, 0.0, {}, &attrs);
  }
  if (!grids.empty()) {
    const auto& [quant, grid] = grids[0];
    outputs.push_back(add_codes(quant->output, grid, shape_of(node.output)));
    for (const auto& [other, first] : same)
      if (first == quant) codes_[other->output] = codes_.at(quant->output);
  }
  add_node(node.name, attrs, inputs, outputs);
  return Ok{};
}

// Query, key and value are the thirds of one linear layer, at the most bits of their weights. Their
// scales, one a head, go into its multipliers, so that all its codes are plain numbers around 128.
Checked Lowering::attention(const Node& node) {
  const size_t heads = std::get<Attention>(node.op).heads;
  const auto width = static_cast<size_t>(shape_of(node.output)[1]);
  const Node* layers[3] = {};
  const QuantSpec* specs[3] = {};
  Codes in;
  int bits = 0;
  for (size_t i = 0; i < 3; ++i) {
    const int q = producer(graph_, node.inputs[i]);
    const auto* const quant =
        q < 0 ? nullptr : std::get_if<FakeQuant>(&graph_.nodes[static_cast<size_t>(q)].op);
    if (quant == nullptr)
      return error(node.name, "input " + std::to_string(i) +
                                  " is not quantised; put a FakeQuant behind query, key and value");
    specs[i] = &quant->spec;
    if (specs[i]->bits != 8 || !specs[i]->is_signed || specs[i]->zero_point != 0 ||
        specs[i]->lo != specs[0]->lo || specs[i]->hi != specs[0]->hi ||
        (specs[i]->scale.size() != 1 && specs[i]->scale.size() != heads))
      return error(node.name, "input " + std::to_string(i) +
                                  ": query, key and value need signed 8 bit codes around 0, with "
                                  "one scale or one a head");
    MPQ_TRY(const Chain chain, trace_chain(graph_, graph_.nodes[static_cast<size_t>(q)].inputs[0]));
    if (chain.base == nullptr || !std::holds_alternative<Linear>(chain.base->op) ||
        chain.residual != kNoValue || chain.activation != format::Activation::kNone ||
        std::isfinite(chain.lo) || std::isfinite(chain.hi))
      return error(node.name, "query, key and value must come from linear layers alone");
    layers[i] = chain.base;
    MPQ_TRY(const Codes x, layer_input(*layers[i]));
    if (i > 0 && x.tensor != in.tensor)
      return error(node.name, "query, key and value read different tensors");
    in = x;
    MPQ_CHECK(check_weights(*layers[i], graph_.values[layers[i]->inputs[1]]));
    if (static_cast<size_t>(shape_of(layers[i]->output)[1]) != width)
      return error(node.name, "query, key and value have different widths");
    bits = std::max(bits, layers[i]->weight_quant->spec.bits);
  }

  const auto scale_of = [&](size_t i, size_t head) {
    return double{specs[i]->scale[specs[i]->scale.size() == 1 ? 0 : head]};
  };
  Epilogue merged;
  std::vector<int8_t> codes;
  for (size_t i = 0; i < 3; ++i) {
    std::vector<double> scales;
    for (size_t c = 0; c < width; ++c) scales.push_back(scale_of(i, c / (width / heads)));
    const Epilogue e = epilogue(*layers[i], in.grid, scales, kMiddle, false);
    merged.multiplier.insert(merged.multiplier.end(), e.multiplier.begin(), e.multiplier.end());
    merged.bias.insert(merged.bias.end(), e.bias.begin(), e.bias.end());
    merged.acc_bias.insert(merged.acc_bias.end(), e.acc_bias.begin(), e.acc_bias.end());
    const std::vector<int8_t>& part = layers[i]->weight_quant->codes;
    codes.insert(codes.end(), part.begin(), part.end());
  }
  std::vector<std::byte> bytes(format::packed_bytes(codes.size(), bits));
  for (size_t i = 0; i < codes.size(); ++i) format::set_code(bytes, i, bits, codes[i]);
  const std::string name = node.name + ".qkv";
  const auto rows = static_cast<int64_t>(3 * width);
  const TensorId weights = add_bytes(name + ".weight", signed_code(bits),
                                     {rows, shape_of(layers[0]->inputs[1])[1]}, std::move(bytes));
  const TensorId qkv = add_tensor(name, DType::kU8, {1, rows}, {1.0F, kMiddle});
  format::Requant requant;
  requant.lo = specs[0]->lo + kMiddle;
  requant.hi = specs[0]->hi + kMiddle;
  add_node(name, format::LinearAttrs{requant}, layer_inputs(name, in.tensor, weights, merged),
           {qkv});
  for (const Node* layer : layers) add_map_layer(bits, in.grid, layer->name);

  const std::vector<const Node*> quants = quantisers(node.output);
  std::map<const Node*, const Node*> same;
  MPQ_TRY(const Grids grids, grids_of(quants, &same));
  if (grids.size() != 1 || quants.size() != consumers(graph_, node.output).size())
    return error(node.name, "its output must be quantised in one way; it is in " +
                                std::to_string(grids.size()) + ", and has " +
                                std::to_string(consumers(graph_, node.output).size()) + " readers");
  const auto& [quant, grid] = grids[0];
  std::vector<float> score_scale, value_scale;
  const double root = std::sqrt(static_cast<double>(width / heads));
  for (size_t h = 0; h < heads; ++h) {
    score_scale.push_back(static_cast<float>(scale_of(0, h) * scale_of(1, h) / root));
    value_scale.push_back(static_cast<float>(scale_of(2, h) / grid.scale));
  }
  const Shape shape{static_cast<int64_t>(heads)};
  std::vector<TensorId> inputs = {
      qkv, add_constant(node.name + ".score_scale", DType::kF32, shape, score_scale),
      add_constant(node.name + ".value_scale", DType::kF32, shape, value_scale)};
  if (node.inputs.size() > 3 && node.inputs[3] != kNoValue)
    inputs.push_back(add_floats(node.inputs[3]));
  format::AttentionAttrs attrs;
  attrs.heads = static_cast<uint32_t>(heads);
  attrs.out_bias = static_cast<float>(grid.zero_point);
  attrs.lo = grid.lo;
  attrs.hi = grid.hi;
  add_node(node.name, attrs, inputs, {add_codes(quant->output, grid, shape_of(node.output))});
  for (const auto& [twin, first] : same) codes_[twin->output] = codes_.at(first->output);
  return Ok{};
}

Checked Lowering::sequence_pool(const Node& node) {
  MPQ_TRY(const TensorId x, real_value(node.inputs[0]));
  const auto& pool = std::get<SequencePool>(node.op);
  using Mode = format::SequencePoolAttrs::Mode;
  add_node(node.name,
           format::SequencePoolAttrs{pool.mean ? Mode::kMean : Mode::kFirst, pool.normalise}, {x},
           {add_real(node.output)});
  return Ok{};
}

}  // namespace mpq::convert::lowering
