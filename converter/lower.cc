#include "converter/lower.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "converter/lower_internal.h"
#include "format/bits.h"

namespace mpq::convert {
namespace {

using format::TensorId;
using lowering::Chain;
using lowering::Grid;

int32_t clamp_round(double x, int32_t lo, int32_t hi) {
  return static_cast<int32_t>(
      std::nearbyint(std::clamp(x, static_cast<double>(lo), static_cast<double>(hi))));
}

// The codes of a grid that a real clip leaves: clamping before rounding or after is the same.
std::pair<int32_t, int32_t> clipped(const Grid& grid, const Chain& chain) {
  return {clamp_round(chain.lo / grid.scale + grid.zero_point, grid.lo, grid.hi),
          clamp_round(chain.hi / grid.scale + grid.zero_point, grid.lo, grid.hi)};
}

class Lowering {
 public:
  Lowering(Graph graph, const LowerOptions& options)
      : graph_(std::move(graph)), options_(options) {}

  Result<LoweredModel> run() {
    lowering::normalise(&graph_);
    out_.model.name = graph_.name;
    out_.model.producer = "mpqconvert";
    MPQ_CHECK(inputs());
    for (const Node& node : graph_.nodes) MPQ_CHECK(visit(node));
    for (const ValueId value : graph_.outputs) {
      if (codes_.find(value) == codes_.end()) MPQ_CHECK(plain_output(value));
      out_.model.outputs.push_back(codes_.at(value).tensor);
    }
    if (options_.image_input) {
      out_.model.has_image_preprocess = true;
      out_.model.image = options_.image;
    }
    return std::move(out_);
  }

 private:
  struct Codes {
    TensorId tensor = format::kNoTensor;
    Grid grid;
  };

  Error error(const std::string& node, const std::string& why) const {
    return {Status::kUnsupported, node + ": " + why};
  }

  TensorId add_tensor(std::string name, DType dtype, Shape shape, QuantParams quant = {}) {
    if (name.empty()) name = "tensor";
    std::string unique = name;
    for (int i = 2; !names_.insert(unique).second; ++i) unique = name + "#" + std::to_string(i);
    out_.model.tensors.push_back({std::move(unique), dtype, std::move(shape), quant, {}});
    return static_cast<TensorId>(out_.model.tensors.size() - 1);
  }

  template <typename T>
  TensorId add_constant(const std::string& name, DType dtype, Shape shape,
                        const std::vector<T>& data) {
    std::vector<std::byte> bytes(data.size() * sizeof(T));
    std::memcpy(bytes.data(), data.data(), bytes.size());
    return add_bytes(name, dtype, std::move(shape), std::move(bytes));
  }

  TensorId add_bytes(const std::string& name, DType dtype, Shape shape,
                     std::vector<std::byte> bytes) {
    out_.storage.push_back(std::move(bytes));
    const TensorId id = add_tensor(name, dtype, std::move(shape));
    out_.model.tensors[id].data = out_.storage.back();
    return id;
  }

  // shape: of the operator's output; the value itself may be it, flattened.
  TensorId add_codes(ValueId value, const Grid& grid, const Shape& shape) {
    const TensorId id = add_tensor(graph_.values[value].name, grid.type, shape,
                                   {static_cast<float>(grid.scale), grid.zero_point});
    codes_[value] = {id, grid};
    return id;
  }

  const Shape& shape_of(ValueId value) const { return graph_.values[value].shape; }

  void add_node(const std::string& name, format::Attrs attrs, std::vector<TensorId> inputs,
                std::vector<TensorId> outputs) {
    std::string unique = name.empty() ? "node" : name;
    for (int i = 2; !node_names_.insert(unique).second; ++i)
      unique = name + "#" + std::to_string(i);
    out_.model.nodes.push_back({unique, std::move(attrs), std::move(inputs), std::move(outputs)});
  }

  Checked inputs() {
    for (const ValueId value : graph_.inputs) {
      const Value& v = graph_.values[value];
      Shape shape = v.shape;
      if (options_.image_input) {
        if (graph_.inputs.size() != 1 || shape.size() != 4 || shape[1] != 3)
          return error(v.name, "shape " + to_string(shape) +
                                   " is not an image 1x3xHxW; convert with "
                                   "a float input instead");
        shape = {shape[0], shape[2], shape[3], shape[1]};
      }
      inputs_[value] =
          add_tensor(v.name, options_.image_input ? DType::kU8 : DType::kF32, std::move(shape));
      out_.model.inputs.push_back(inputs_[value]);
    }
    return Ok{};
  }

  Checked visit(const Node& node) {
    if (std::holds_alternative<FakeQuant>(node.op)) {
      if (codes_.find(node.output) != codes_.end()) return Ok{};  // with an earlier sibling
      return fake_quants(node);
    }
    if (std::holds_alternative<MaxPool>(node.op)) return max_pool(node);
    if (std::holds_alternative<Flatten>(node.op)) return flatten(node);
    return Ok{};  // part of a chain; reached from its FakeQuant
  }

  Checked max_pool(const Node& node) {
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

  // Codes of 1xCx1x1 are codes of 1xC: linear accepts both.
  Checked flatten(const Node& node) {
    const auto x = codes_.find(node.inputs[0]);
    if (x == codes_.end()) return Ok{};
    MPQ_CHECK(lowering::check_flatten(graph_, node));
    codes_[node.output] = x->second;
    return Ok{};
  }

  // All FakeQuant nodes that read the value of `first`: one operator with one or two outputs.
  Checked fake_quants(const Node& first) {
    const ValueId value = first.inputs[0];
    std::vector<const Node*> quants;
    for (const uint32_t i : consumers(graph_, value)) {
      const Node& reader = graph_.nodes[i];
      if (std::holds_alternative<FakeQuant>(reader.op)) quants.push_back(&reader);
    }
    MPQ_TRY(const Chain chain, lowering::trace_chain(graph_, value));
    const bool sum = chain.base != nullptr;
    if (sum && quants.size() != consumers(graph_, value).size())
      return error(first.name,
                   "the value that it quantises is also read as it is; put a FakeQuant "
                   "before each reader");

    // Distinct grids, the finest first: the second output is computed from the first one's scale.
    std::vector<std::pair<const Node*, Grid>> grids;
    std::map<const Node*, const Node*> same;
    for (const Node* quant : quants) {
      MPQ_TRY(const Grid grid, lowering::activation_grid(*quant));
      const auto twin = std::find_if(grids.begin(), grids.end(), [&](const auto& g) {
        return lowering::same_grid(std::get<FakeQuant>(g.first->op).spec,
                                   std::get<FakeQuant>(quant->op).spec);
      });
      if (twin != grids.end())
        same[quant] = twin->first;
      else
        grids.emplace_back(quant, grid);
    }
    std::stable_sort(grids.begin(), grids.end(), [](const auto& a, const auto& b) {
      return bits_of(a.second.type) > bits_of(b.second.type);
    });
    MPQ_CHECK(sum ? emit_sum(*chain.base, chain, grids) : emit_value(chain, grids));
    for (const auto& [quant, twin] : same) codes_[quant->output] = codes_.at(twin->output);
    return Ok{};
  }

  using Grids = std::vector<std::pair<const Node*, Grid>>;

  // The graph input, or codes on another grid.
  Checked emit_value(const Chain& chain, const Grids& grids) {
    const auto x = inputs_.find(chain.value);
    for (const auto& [quant, grid] : grids) {
      const auto [lo, hi] = clipped(grid, chain);
      if (x == inputs_.end()) {
        const auto codes = codes_.find(chain.value);
        if (codes == codes_.end())
          return error(quant->name, "reads a value that is neither codes nor an input");
        requantise(*quant, Codes(codes->second), grid, lo, hi);
      } else if (options_.image_input) {
        MPQ_CHECK(image_table(*quant, x->second, grid, lo, hi));
      } else {
        const bool narrow = lo != 0 || hi != max_code(grid.type);
        const Shape& shape = shape_of(chain.value);
        const QuantParams params{static_cast<float>(grid.scale), grid.zero_point};
        const TensorId y = narrow ? add_tensor(quant->name + ".wide", grid.type, shape, params)
                                  : add_codes(quant->output, grid, shape);
        add_node(quant->name, format::QuantizeAttrs{}, {x->second}, {y});
        if (narrow) requantise(*quant, {y, grid}, grid, lo, hi);
      }
    }
    return Ok{};
  }

  // As an addition of two halves: v = (code - zero) * (s_in / s_out) + zero point.
  void requantise(const Node& quant, const Codes& in, const Grid& grid, int32_t lo, int32_t hi) {
    format::AddAttrs a;
    a.scale_a = a.scale_b = static_cast<float>(0.5 * in.grid.scale / grid.scale);
    a.bias = static_cast<float>(grid.zero_point);
    a.lo = lo;
    a.hi = hi;
    const TensorId y = add_codes(quant.output, grid, out_.model.tensors[in.tensor].shape);
    add_node(quant.name, a, {in.tensor, in.tensor}, {y});
  }

  // code = table[channel][pixel], by the preprocessing in binary32 and then the grid.
  Checked image_table(const Node& quant, TensorId pixels, const Grid& grid, int32_t lo,
                      int32_t hi) {
    std::vector<uint8_t> table;
    const auto scale = static_cast<float>(grid.scale);
    for (size_t c = 0; c < 3; ++c)
      for (int pixel = 0; pixel < 256; ++pixel) {
        const float x = (static_cast<float>(pixel) / 255.0F - options_.image.mean[c]) /
                        options_.image.stddev[c];
        const float code = std::nearbyint(x / scale) + static_cast<float>(grid.zero_point);
        table.push_back(
            static_cast<uint8_t>(std::clamp(code, static_cast<float>(lo), static_cast<float>(hi))));
      }
    const TensorId y = add_codes(quant.output, grid, shape_of(graph_.inputs[0]));
    const TensorId t = add_constant(quant.name + ".table", DType::kU8, {3, 256}, table);
    add_node(quant.name, format::ImageQuantizeAttrs{}, {pixels, t}, {y});
    return Ok{};
  }

  Checked emit_sum(const Node& base, const Chain& chain, const Grids& grids) {
    if (grids.size() > 2)
      return error(base.name, "its output is quantised in " + std::to_string(grids.size()) +
                                  " ways, two are possible; give its readers the same precision");
    if (const auto* pool = std::get_if<AvgPool>(&base.op)) {
      if (grids.size() != 1)
        return error(base.name,
                     "the output of an average pool is quantised in two ways; give its "
                     "readers the same precision");
      return avg_pool(base, *pool, &chain, grids);
    }
    if (std::holds_alternative<Add>(base.op)) return add(base, chain, grids);
    return matrix(base, chain, grids, DType::kU8);
  }

  // Scale, bias and range of a second output from v of the first.
  template <typename Target>
  static void set_outputs(const Chain& chain, const Grids& grids, Target* r) {
    std::tie(r->lo, r->hi) = clipped(grids[0].second, chain);
    if (grids.size() < 2) return;
    const Grid& first = grids[0].second;
    const Grid& second = grids[1].second;
    const double t = first.scale / second.scale;
    r->second_scale = static_cast<float>(t);
    r->second_bias = static_cast<float>(second.zero_point - first.zero_point * t);
    std::tie(r->second_lo, r->second_hi) = clipped(second, chain);
  }

  std::vector<TensorId> output_tensors(const Node& base, const Grids& grids) {
    std::vector<TensorId> outputs;
    for (const auto& [quant, grid] : grids)
      outputs.push_back(add_codes(quant->output, grid, shape_of(base.output)));
    return outputs;
  }

  Checked add(const Node& node, const Chain& chain, const Grids& grids) {
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

  // grids empty: f32 output.
  Checked avg_pool(const Node& node, const AvgPool& pool, const Chain* chain, const Grids& grids) {
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
      outputs.push_back(add_tensor(graph_.values[node.output].name, DType::kF32,
                                   graph_.values[node.output].shape));
    } else {
      a.bias = static_cast<float>(grids[0].second.zero_point);
      std::tie(a.lo, a.hi) = clipped(grids[0].second, *chain);
      outputs = output_tensors(node, grids);
    }
    add_node(node.name, a, {in.tensor}, outputs);
    plain_tensor_ = outputs[0];
    return Ok{};
  }

  // Conv or Linear with its epilogue. out is kU8 for codes on `grids`, else kF32 or kS32.
  Checked matrix(const Node& node, const Chain& chain, const Grids& grids, DType out) {
    const bool is_conv = std::holds_alternative<Conv>(node.op);
    if (!node.weight_quant)
      return error(node.name,
                   "its weights are not quantised; run quantize, or import integer weights");
    const auto x = codes_.find(node.inputs[0]);
    if (x == codes_.end())
      return error(node.name, "its input is not quantised; put a FakeQuant before it");
    const Codes in = x->second;
    const Value& weights = graph_.values[node.inputs[1]];
    MPQ_TRY(const TensorId w, weight_tensor(node, weights));

    const auto channels = static_cast<size_t>(weights.shape[0]);
    const std::vector<float>& scales = node.weight_quant->spec.scale;
    const double out_scale = grids.empty() ? 1.0 : grids[0].second.scale;
    const int32_t out_zero = grids.empty() ? 0 : grids[0].second.zero_point;
    const size_t per_channel = node.weight_quant->codes.size() / channels;
    std::vector<float> multiplier(channels), bias(channels);
    std::vector<int32_t> acc_bias(channels);
    const bool has_bias = node.inputs.size() > 2 && node.inputs[2] != kNoValue;
    for (size_t c = 0; c < channels; ++c) {
      const double scale = double{scales[scales.size() == 1 ? 0 : c]} * in.grid.scale;
      const double b = has_bias ? graph_.values[node.inputs[2]].data[c] : 0.0;
      multiplier[c] = static_cast<float>(scale / out_scale);
      bias[c] = static_cast<float>(b / out_scale + out_zero);
      int64_t sum = 0;
      for (size_t k = 0; k < per_channel; ++k) sum += node.weight_quant->codes[c * per_channel + k];
      acc_bias[c] = static_cast<int32_t>(-in.grid.zero_point * sum);
      if (out == DType::kS32)  // the bias of integer outputs, in units of the accumulator
        acc_bias[c] += static_cast<int32_t>(std::nearbyint(b / scale));
    }
    const auto count = static_cast<int64_t>(channels);
    std::vector<TensorId> inputs = {
        in.tensor, w, add_constant(node.name + ".multiplier", DType::kF32, {count}, multiplier),
        add_constant(node.name + ".bias", DType::kF32, {count}, bias)};
    const bool any_acc_bias =
        std::any_of(acc_bias.begin(), acc_bias.end(), [](int32_t b) { return b != 0; });
    if (any_acc_bias)
      inputs.push_back(add_constant(node.name + ".acc_bias", DType::kS32, {count}, acc_bias));

    format::Requant requant;
    if (chain.residual != kNoValue) {
      const Codes residual = codes_.at(chain.residual);
      if (!any_acc_bias) inputs.push_back(format::kNoTensor);
      inputs.push_back(residual.tensor);
      requant.residual_scale = static_cast<float>(residual.grid.scale / out_scale);
    }
    std::vector<TensorId> outputs;
    if (grids.empty()) {
      const Value& y = graph_.values[node.output];
      outputs.push_back(add_tensor(y.name, out, y.shape));
      plain_tensor_ = outputs[0];
    } else {
      set_outputs(chain, grids, &requant);
      outputs = output_tensors(node, grids);
    }
    if (is_conv) {
      const auto& c = std::get<Conv>(node.op);
      add_node(node.name,
               format::Conv2dAttrs{c.stride_h, c.stride_w, c.pad_top, c.pad_left, c.pad_bottom,
                                   c.pad_right, c.dilation_h, c.dilation_w, c.groups, requant},
               inputs, outputs);
    } else {
      add_node(node.name, format::LinearAttrs{requant}, inputs, outputs);
    }
    out_.model.map.layers.push_back({out_.model.nodes.back().name,
                                     static_cast<uint8_t>(node.weight_quant->spec.bits),
                                     static_cast<uint8_t>(bits_of(in.grid.type)),
                                     static_cast<uint32_t>(out_.model.map.layers.size())});
    return Ok{};
  }

  Result<TensorId> weight_tensor(const Node& node, const Value& weights) {
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
    std::vector<std::byte> bytes(format::packed_bytes(elements, q.spec.bits));
    for (uint64_t i = 0; i < elements; ++i) {
      if (q.codes[i] < min_code(type) || q.codes[i] > max_code(type))
        return error(node.name, "weight code " + std::to_string(q.codes[i]) + " at " +
                                    std::to_string(i) + " does not fit " + to_string(type));
      format::set_code(bytes, i, q.spec.bits, q.codes[i]);
    }
    return add_bytes(weights.name, type, weights.shape, std::move(bytes));
  }

  // A graph output that nobody quantised: float, or the accumulators.
  Checked plain_output(ValueId value) {
    const std::string& name = graph_.values[value].name;
    MPQ_TRY(const Chain chain, lowering::trace_chain(graph_, value));
    if (chain.base == nullptr)
      return error(name, "the output is a graph input or codes on no grid");
    if (std::isfinite(chain.lo) || std::isfinite(chain.hi))
      return error(chain.base->name,
                   "an activation before a float output cannot be fused; put a "
                   "FakeQuant behind it");
    const DType type = options_.accumulator_output ? DType::kS32 : DType::kF32;
    if (const auto* pool = std::get_if<AvgPool>(&chain.base->op)) {
      MPQ_CHECK(avg_pool(*chain.base, *pool, nullptr, {}));
    } else if (std::holds_alternative<Add>(chain.base->op)) {
      return error(chain.base->name, "an Add has no float output; put a FakeQuant behind it");
    } else {
      if (type == DType::kS32 && chain.residual != kNoValue)
        return error(chain.base->name, "accumulators with a residual added are no output");
      MPQ_CHECK(matrix(*chain.base, chain, {}, type));
    }
    codes_[value] = {plain_tensor_, {}};
    return Ok{};
  }

  Graph graph_;
  const LowerOptions& options_;
  LoweredModel out_;
  std::map<ValueId, TensorId> inputs_;
  std::map<ValueId, Codes> codes_;
  std::set<std::string> names_, node_names_;
  TensorId plain_tensor_ = format::kNoTensor;
};

}  // namespace

Result<LoweredModel> lower(const Graph& graph, const LowerOptions& options) {
  return Lowering(graph, options).run();
}

}  // namespace mpq::convert
