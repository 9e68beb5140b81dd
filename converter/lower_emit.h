// Emission: a graph in normal form -> format::Model, node by node. Private to lower*.cc.
#pragma once

#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "converter/lower_internal.h"

namespace mpq::convert::lowering {

using format::TensorId;

class Lowering {
 public:
  Lowering(Graph graph, const LowerOptions& options)
      : graph_(std::move(graph)), options_(options) {}
  Result<LoweredModel> run();

 private:
  struct Codes {
    TensorId tensor = format::kNoTensor;
    Grid grid;
  };
  // The grids on which a value is quantised, each with one FakeQuant for it.
  using Grids = std::vector<std::pair<const Node*, Grid>>;
  // How the sums of a layer become numbers: v = sum * multiplier + bias, sum from acc_bias.
  struct Epilogue {
    std::vector<float> multiplier, bias;
    std::vector<int32_t> acc_bias;
  };

  // lower.cc: the walk, and tensors.
  Checked inputs();
  Checked visit(const Node& node);
  Checked flatten(const Node& node);
  Checked fake_quants(const Node& first);
  Result<Grids> grids_of(const std::vector<const Node*>& quants,
                         std::map<const Node*, const Node*>* same) const;
  std::vector<const Node*> quantisers(ValueId value) const;  // the FakeQuant nodes that read it
  Checked emit_value(const Chain& chain, const Grids& grids);
  Checked emit_sum(const Node& base, const Chain& chain, const Grids& grids);
  Checked graph_output(ValueId value);
  Result<TensorId> real_value(ValueId value);  // as f32, from the layer that computes it

  TensorId add_tensor(std::string name, DType dtype, Shape shape, QuantParams quant = {});
  TensorId add_bytes(const std::string& name, DType dtype, Shape shape,
                     std::vector<std::byte> bytes);
  template <typename T>
  TensorId add_constant(const std::string& name, DType dtype, Shape shape,
                        const std::vector<T>& data) {
    std::vector<std::byte> bytes(data.size() * sizeof(T));
    std::memcpy(bytes.data(), data.data(), bytes.size());
    return add_bytes(name, dtype, std::move(shape), std::move(bytes));
  }
  TensorId add_floats(ValueId constant);
  // shape: of the operator's output; the value itself may be it, flattened.
  TensorId add_codes(ValueId value, const Grid& grid, const Shape& shape);
  TensorId add_real(ValueId value);
  std::vector<TensorId> output_tensors(const Node& base, const Grids& grids);
  void add_node(const std::string& name, format::Attrs attrs, std::vector<TensorId> inputs,
                std::vector<TensorId> outputs);
  void add_map_layer(int weight_bits, const Grid& input, const std::string& part = {});

  // lower_layers.cc: convolutional networks, and layers with weights.
  Checked max_pool(const Node& node);
  void requantise(const Node& quant, const Codes& in, const Grid& grid, int32_t lo, int32_t hi);
  Checked image_table(const Node& quant, TensorId pixels, const Grid& grid, int32_t lo, int32_t hi);
  Checked add(const Node& node, const Chain& chain, const Grids& grids);
  // grids empty: f32 output, here and below.
  Checked avg_pool(const Node& node, const AvgPool& pool, const Chain* chain, const Grids& grids);
  // Conv or Linear with its epilogue. out is kU8 for codes on `grids`, else kF32 or kS32.
  Checked matrix(const Node& node, const Chain& chain, const Grids& grids, DType out);
  Result<Codes> layer_input(const Node& node) const;
  // out_scales: one, or one a channel. sums: the output is the sum itself, bias in its units.
  Epilogue epilogue(const Node& node, const Grid& in, std::span<const double> out_scales,
                    double out_zero, bool sums) const;
  std::vector<TensorId> layer_inputs(const std::string& name, TensorId x, TensorId weights,
                                     const Epilogue& epilogue);
  Result<TensorId> weight_tensor(const Node& node, const Value& weights);
  Checked check_weights(const Node& node, const Value& weights) const;

  // lower_sequences.cc
  bool feeds_attention(ValueId value) const;
  const Node* twin_of(const Node& norm) const;
  Checked embedding(const Node& node);
  Checked layer_norm(const Node& node);
  Checked attention(const Node& node);
  Checked sequence_pool(const Node& node);

  Error error(const std::string& node, const std::string& why) const {
    return {Status::kUnsupported, node + ": " + why};
  }
  const Shape& shape_of(ValueId value) const { return graph_.values[value].shape; }

  Graph graph_;
  const LowerOptions& options_;
  LoweredModel out_;
  std::map<ValueId, TensorId> inputs_;
  std::map<ValueId, Codes> codes_;
  std::map<ValueId, TensorId> reals_;  // f32 tensors
  std::set<std::string> names_, node_names_;
  std::set<const Node*> fused_;  // normalisations that are the second output of another
};

// The codes of a grid that a real clip leaves: clamping before rounding or after is the same.
std::pair<int32_t, int32_t> clipped(const Grid& grid, const Chain& chain);

// Scale, bias and range of a second output from v of the first.
template <typename Target>
void set_second(const Grid& second, double first_scale, double first_zero, const Chain& chain,
                Target* r) {
  const double t = first_scale / second.scale;
  r->second_scale = static_cast<float>(t);
  r->second_bias = static_cast<float>(second.zero_point - first_zero * t);
  std::tie(r->second_lo, r->second_hi) = clipped(second, chain);
}
template <typename Target>
void set_outputs(const Chain& chain, const std::vector<std::pair<const Node*, Grid>>& grids,
                 Target* r) {
  const Grid& first = grids[0].second;
  std::tie(r->lo, r->hi) = clipped(first, chain);
  if (grids.size() > 1) set_second(grids[1].second, first.scale, first.zero_point, chain, r);
}

}  // namespace mpq::convert::lowering
