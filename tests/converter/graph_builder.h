// Small graphs for tests: shapes are inferred, names are counted.
#pragma once

#include <random>

#include "converter/graph.h"

namespace mpq::convert {

class GraphBuilder {
 public:
  explicit GraphBuilder(uint32_t seed = 1) : rng_(seed) {}

  ValueId input(const Shape& shape) {
    const ValueId id = graph.add_value({.name = "input", .shape = shape});
    graph.inputs.push_back(id);
    return id;
  }
  ValueId constant(const Shape& shape, std::vector<float> data) {
    return graph.add_value(
        {.name = next("const"), .shape = shape, .data = std::move(data), .is_constant = true});
  }
  // Normal numbers with a standard deviation.
  ValueId random(const Shape& shape, float deviation = 1.0F, float mean = 0.0F) {
    size_t elements = 1;
    for (const int64_t dim : shape) elements *= static_cast<size_t>(dim);
    return constant(shape, random_data(elements, deviation, mean));
  }
  std::vector<float> random_data(size_t elements, float deviation = 1.0F, float mean = 0.0F) {
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float> data(elements);
    for (float& v : data) v = normal(rng_);
    return data;
  }
  ValueId node(Op op, std::vector<ValueId> inputs) {
    Node node{.name = next(op_name(op)), .op = std::move(op), .inputs = std::move(inputs)};
    const Result<Shape> shape = infer_shape(graph, node);
    node.output =
        graph.add_value({.name = node.name + ":0", .shape = shape.ok() ? *shape : Shape{}});
    graph.nodes.push_back(std::move(node));
    return graph.nodes.back().output;
  }
  Graph finish(ValueId output) {
    graph.outputs = {output};
    return graph;
  }

  Graph graph;

 private:
  std::string next(const std::string& stem) { return stem + std::to_string(count_++); }
  std::mt19937 rng_;
  int count_ = 0;
};

}  // namespace mpq::convert
