#include "converter/lower.h"

#include <algorithm>
#include <cmath>

#include "converter/lower_emit.h"

namespace mpq::convert {
namespace lowering {
namespace {

int32_t clamp_round(double x, int32_t lo, int32_t hi) {
  return static_cast<int32_t>(
      std::nearbyint(std::clamp(x, static_cast<double>(lo), static_cast<double>(hi))));
}

}  // namespace

std::pair<int32_t, int32_t> clipped(const Grid& grid, const Chain& chain) {
  return {clamp_round(chain.lo / grid.scale + grid.zero_point, grid.lo, grid.hi),
          clamp_round(chain.hi / grid.scale + grid.zero_point, grid.lo, grid.hi)};
}

Result<LoweredModel> Lowering::run() {
  normalise(&graph_);
  out_.model.name = graph_.name;
  out_.model.producer = "mpqconvert";
  out_.model.sequence_length = graph_.sequence_length;
  MPQ_CHECK(inputs());
  for (const Node& node : graph_.nodes) MPQ_CHECK(visit(node));
  for (const ValueId value : graph_.outputs) MPQ_CHECK(graph_output(value));
  if (options_.image_input && graph_.sequence_length == 0) {
    out_.model.has_image_preprocess = true;
    out_.model.image = options_.image;
  }
  return std::move(out_);
}

TensorId Lowering::add_tensor(std::string name, DType dtype, Shape shape, QuantParams quant) {
  if (name.empty()) name = "tensor";
  std::string unique = name;
  for (int i = 2; !names_.insert(unique).second; ++i) unique = name + "#" + std::to_string(i);
  out_.model.tensors.push_back({std::move(unique), dtype, std::move(shape), quant, {}});
  return static_cast<TensorId>(out_.model.tensors.size() - 1);
}

TensorId Lowering::add_bytes(const std::string& name, DType dtype, Shape shape,
                             std::vector<std::byte> bytes) {
  out_.storage.push_back(std::move(bytes));
  const TensorId id = add_tensor(name, dtype, std::move(shape));
  out_.model.tensors[id].data = out_.storage.back();
  return id;
}

TensorId Lowering::add_floats(ValueId constant) {
  const Value& value = graph_.values[constant];
  return add_constant(value.name, DType::kF32, value.shape, value.data);
}

TensorId Lowering::add_codes(ValueId value, const Grid& grid, const Shape& shape) {
  const TensorId id = add_tensor(graph_.values[value].name, grid.type, shape,
                                 {static_cast<float>(grid.scale), grid.zero_point});
  codes_[value] = {id, grid};
  return id;
}

TensorId Lowering::add_real(ValueId value) {
  const Value& v = graph_.values[value];
  return reals_[value] = add_tensor(v.name, DType::kF32, v.shape);
}

std::vector<TensorId> Lowering::output_tensors(const Node& base, const Grids& grids) {
  std::vector<TensorId> outputs;
  for (const auto& [quant, grid] : grids)
    outputs.push_back(add_codes(quant->output, grid, shape_of(base.output)));
  return outputs;
}

void Lowering::add_node(const std::string& name, format::Attrs attrs, std::vector<TensorId> inputs,
                        std::vector<TensorId> outputs) {
  std::string unique = name.empty() ? "node" : name;
  for (int i = 2; !node_names_.insert(unique).second; ++i) unique = name + "#" + std::to_string(i);
  out_.model.nodes.push_back({unique, std::move(attrs), std::move(inputs), std::move(outputs)});
}

// Of the node added last.
void Lowering::add_map_layer(int weight_bits, const Grid& input, const std::string& part) {
  std::vector<format::MapLayer>& layers = out_.model.map.layers;
  layers.push_back({out_.model.nodes.back().name, static_cast<uint8_t>(weight_bits),
                    static_cast<uint8_t>(bits_of(input.type)), static_cast<uint32_t>(layers.size()),
                    part});
}

Checked Lowering::inputs() {
  for (const ValueId value : graph_.inputs) {
    const Value& v = graph_.values[value];
    Shape shape = v.shape;
    DType type = DType::kF32;
    if (graph_.sequence_length != 0) {
      type = DType::kS32;  // indices
    } else if (options_.image_input) {
      if (graph_.inputs.size() != 1 || shape.size() != 4 || shape[1] != 3)
        return error(v.name, "shape " + to_string(shape) +
                                 " is not an image 1x3xHxW; convert with "
                                 "a float input instead");
      shape = {shape[0], shape[2], shape[3], shape[1]};
      type = DType::kU8;
    }
    inputs_[value] = add_tensor(v.name, type, std::move(shape));
    out_.model.inputs.push_back(inputs_[value]);
  }
  return Ok{};
}

Checked Lowering::visit(const Node& node) {
  if (std::holds_alternative<FakeQuant>(node.op)) {
    if (codes_.find(node.output) != codes_.end()) return Ok{};  // with an earlier sibling
    if (feeds_attention(node.output)) return Ok{};              // emitted with the attention
    return fake_quants(node);
  }
  if (std::holds_alternative<MaxPool>(node.op)) return max_pool(node);
  if (std::holds_alternative<Flatten>(node.op)) return flatten(node);
  if (std::holds_alternative<Embedding>(node.op)) return embedding(node);
  if (std::holds_alternative<LayerNorm>(node.op)) return layer_norm(node);
  if (std::holds_alternative<Attention>(node.op)) return attention(node);
  if (std::holds_alternative<SequencePool>(node.op)) return sequence_pool(node);
  return Ok{};  // part of a chain; reached from what reads it
}

// Codes of 1xCx1x1 are codes of 1xC: linear accepts both.
Checked Lowering::flatten(const Node& node) {
  const auto x = codes_.find(node.inputs[0]);
  if (x == codes_.end()) return Ok{};
  MPQ_CHECK(check_flatten(graph_, node));
  codes_[node.output] = x->second;
  return Ok{};
}

std::vector<const Node*> Lowering::quantisers(ValueId value) const {
  std::vector<const Node*> quants;
  for (const uint32_t i : consumers(graph_, value))
    if (std::holds_alternative<FakeQuant>(graph_.nodes[i].op)) quants.push_back(&graph_.nodes[i]);
  return quants;
}

// Distinct grids, the finest first: the second output is computed from the first one's scale.
// `same`: the nodes whose grid another one has.
Result<Lowering::Grids> Lowering::grids_of(const std::vector<const Node*>& quants,
                                           std::map<const Node*, const Node*>* same) const {
  Grids grids;
  for (const Node* quant : quants) {
    MPQ_TRY(const Grid grid, activation_grid(*quant));
    const auto twin = std::find_if(grids.begin(), grids.end(), [&](const auto& g) {
      return same_grid(std::get<FakeQuant>(g.first->op).spec, std::get<FakeQuant>(quant->op).spec);
    });
    if (twin != grids.end())
      (*same)[quant] = twin->first;
    else
      grids.emplace_back(quant, grid);
  }
  std::stable_sort(grids.begin(), grids.end(), [](const auto& a, const auto& b) {
    return bits_of(a.second.type) > bits_of(b.second.type);
  });
  return grids;
}

// All FakeQuant nodes that read the value of `first`: one operator with one or two outputs.
Checked Lowering::fake_quants(const Node& first) {
  const ValueId value = first.inputs[0];
  const std::vector<const Node*> quants = quantisers(value);
  MPQ_TRY(const Chain chain, trace_chain(graph_, value));
  const bool sum = chain.base != nullptr;
  if (sum && quants.size() != consumers(graph_, value).size())
    return error(first.name,
                 "the value that it quantises is also read as it is; put a FakeQuant "
                 "before each reader");
  std::map<const Node*, const Node*> same;
  MPQ_TRY(const Grids grids, grids_of(quants, &same));
  MPQ_CHECK(sum ? emit_sum(*chain.base, chain, grids) : emit_value(chain, grids));
  for (const auto& [quant, twin] : same) codes_[quant->output] = codes_.at(twin->output);
  return Ok{};
}

// A graph input, f32 rows, or codes on another grid.
Checked Lowering::emit_value(const Chain& chain, const Grids& grids) {
  const auto input = inputs_.find(chain.value);
  const auto real = reals_.find(chain.value);
  for (const auto& [quant, grid] : grids) {
    if (codes_.find(quant->output) != codes_.end()) continue;  // with the value itself
    const auto [lo, hi] = clipped(grid, chain);
    if (input == inputs_.end() && real == reals_.end()) {
      const auto codes = codes_.find(chain.value);
      if (codes == codes_.end())
        return error(quant->name, "reads a value that is neither codes nor an input");
      requantise(*quant, Codes(codes->second), grid, lo, hi);
    } else if (input != inputs_.end() && options_.image_input) {
      MPQ_CHECK(image_table(*quant, input->second, grid, lo, hi));
    } else {
      const TensorId x = input != inputs_.end() ? input->second : real->second;
      const bool narrow = lo != 0 || hi != max_code(grid.type);
      const Shape& shape = shape_of(chain.value);
      const QuantParams params{static_cast<float>(grid.scale), grid.zero_point};
      const TensorId y = narrow ? add_tensor(quant->name + ".wide", grid.type, shape, params)
                                : add_codes(quant->output, grid, shape);
      add_node(quant->name, format::QuantizeAttrs{}, {x}, {y});
      if (narrow) requantise(*quant, {y, grid}, grid, lo, hi);
    }
  }
  return Ok{};
}

Checked Lowering::emit_sum(const Node& base, const Chain& chain, const Grids& grids) {
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

Result<TensorId> Lowering::real_value(ValueId value) {
  if (const auto known = reals_.find(value); known != reals_.end()) return known->second;
  const std::string& name = graph_.values[value].name;
  MPQ_TRY(const Chain chain, trace_chain(graph_, value));
  if (chain.base == nullptr) {
    const auto known = reals_.find(chain.value);
    if (known != reals_.end() && !std::isfinite(chain.lo) && !std::isfinite(chain.hi))
      return known->second;
    return error(name, "the output is a graph input or codes on no grid");
  }
  if (std::isfinite(chain.lo) || std::isfinite(chain.hi))
    return error(chain.base->name,
                 "an activation before a float output cannot be fused; put a "
                 "FakeQuant behind it");
  if (std::holds_alternative<Add>(chain.base->op))
    return error(chain.base->name, "an Add has no float output; put a FakeQuant behind it");
  if (const auto* pool = std::get_if<AvgPool>(&chain.base->op)) {
    MPQ_CHECK(avg_pool(*chain.base, *pool, nullptr, {}));
  } else {
    MPQ_CHECK(matrix(*chain.base, chain, {}, DType::kF32));
  }
  return reals_[value] = out_.model.nodes.back().outputs[0];
}

// Codes, or what nobody quantised: float, or the accumulators.
Checked Lowering::graph_output(ValueId value) {
  if (const auto codes = codes_.find(value); codes != codes_.end()) {
    out_.model.outputs.push_back(codes->second.tensor);
    return Ok{};
  }
  if (options_.accumulator_output) {
    MPQ_TRY(const Chain chain, trace_chain(graph_, value));
    const bool layer = chain.base != nullptr && (std::holds_alternative<Conv>(chain.base->op) ||
                                                 std::holds_alternative<Linear>(chain.base->op));
    if (layer) {
      if (chain.residual != kNoValue || chain.activation != format::Activation::kNone ||
          std::isfinite(chain.lo) || std::isfinite(chain.hi))
        return error(chain.base->name,
                     "accumulators with an activation or a residual added are no output");
      MPQ_CHECK(matrix(*chain.base, chain, {}, DType::kS32));
      out_.model.outputs.push_back(out_.model.nodes.back().outputs[0]);
      return Ok{};
    }
  }
  MPQ_TRY(const TensorId tensor, real_value(value));
  out_.model.outputs.push_back(tensor);
  return Ok{};
}

}  // namespace lowering

Result<LoweredModel> lower(const Graph& graph, const LowerOptions& options) {
  return lowering::Lowering(graph, options).run();
}

Checked name_parts(format::PrecisionMap* map, const format::Model& model) {
  for (format::MapLayer& layer : map->layers) {
    const auto found = std::find_if(
        model.map.layers.begin(), model.map.layers.end(), [&](const format::MapLayer& lowered) {
          return (lowered.part.empty() ? lowered.node : lowered.part) == layer.node;
        });
    if (found == model.map.layers.end())
      return Error{Status::kInternal, "precision map: '" + layer.node + "' is not in the model"};
    layer.node = found->node;
    layer.part = found->part;
  }
  return Ok{};
}

}  // namespace mpq::convert
