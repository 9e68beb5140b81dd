#include <doctest/doctest.h>

#include "converter/graph.h"
#include "graph_builder.h"

namespace mpq::convert {
namespace {

// conv -> relu on a 1x3x8x8 input; valid until a test damages it.
Graph small_graph() {
  GraphBuilder b;
  const ValueId x = b.input({1, 3, 8, 8});
  return b.finish(
      b.node(Relu{}, {b.node(Conv{.stride_h = 2}, {x, b.random({4, 3, 3, 1}), b.random({4})})}));
}

std::string reason(const Graph& graph) {
  const Checked checked = check(graph);
  return checked.ok() ? "" : checked.error().message;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("graph: shapes follow the window arithmetic") {
  const Graph graph = small_graph();
  CHECK(reason(graph).empty());
  CHECK(graph.values[graph.outputs[0]].shape == Shape{1, 4, 3, 8});
}

TEST_CASE("graph: producers, consumers and print") {
  const Graph graph = small_graph();
  CHECK(producer(graph, graph.outputs[0]) == 1);
  CHECK(producer(graph, graph.inputs[0]) == -1);
  CHECK(consumers(graph, graph.inputs[0]) == std::vector<uint32_t>{0});
  CHECK(consumers(graph, graph.outputs[0]).empty());
  const std::string text = print(graph);
  CHECK(contains(
      text,
      "conv 'conv2' (input:1x3x8x8, const const0:4x3x3x1, const const1:4) -> conv2:0:1x4x3x8"));
}

TEST_CASE("graph: check finds each broken invariant") {
  Graph graph = small_graph();
  SUBCASE("order") {
    std::swap(graph.nodes[0], graph.nodes[1]);
    CHECK(contains(reason(graph), "not defined before"));
  }
  SUBCASE("names") {
    graph.nodes[1].name = graph.nodes[0].name;
    CHECK(contains(reason(graph), "used twice"));
  }
  SUBCASE("arity") {
    graph.nodes[1].inputs.push_back(graph.inputs[0]);
    CHECK(contains(reason(graph), "2 inputs, expected 1..1"));
  }
  SUBCASE("shape") {
    graph.values[graph.nodes[0].output].shape = {1, 4, 3, 7};
    CHECK(contains(reason(graph), "output shape 1x4x3x7, inferred 1x4x3x8"));
  }
  SUBCASE("weights do not fit") {
    graph.values[graph.nodes[0].inputs[1]].shape = {4, 9, 1, 1};
    CHECK(contains(reason(graph), "weights 4x9x1x1 do not fit input 1x3x8x8"));
  }
  SUBCASE("constant length") {
    graph.values[graph.nodes[0].inputs[2]].data.pop_back();
    CHECK(contains(reason(graph), "3 elements for shape 4"));
  }
  SUBCASE("bias length") {
    graph.values[graph.nodes[0].inputs[2]] = {
        .name = "b", .shape = {3}, .data = {1, 2, 3}, .is_constant = true};
    CHECK(contains(reason(graph), "expected 4 values"));
  }
  SUBCASE("two producers") {
    graph.nodes[1].output = graph.nodes[0].output;
    CHECK(contains(reason(graph), "another producer"));
  }
  SUBCASE("output") {
    graph.outputs = {99};
    CHECK(contains(reason(graph), "graph output 99 is not defined"));
  }
  SUBCASE("window too large") {
    std::get<Conv>(graph.nodes[0].op).dilation_h = 4;
    CHECK(contains(reason(graph), "a window of 9 does not fit in 8"));
  }
  SUBCASE("zero stride") {
    std::get<Conv>(graph.nodes[0].op).stride_w = 0;
    CHECK(contains(reason(graph), "stride"));
  }
  SUBCASE("weight codes") {
    WeightQuant quant;
    quant.spec = {.bits = 2, .is_signed = true, .scale = {1.0F}, .lo = -2, .hi = 1};
    quant.codes.assign(36, 1);
    graph.nodes[0].weight_quant = quant;
    CHECK(reason(graph).empty());
    graph.nodes[0].weight_quant->codes[5] = 2;
    CHECK(contains(reason(graph), "weight code 2 is out of range"));
    graph.nodes[0].weight_quant = quant;
    graph.nodes[0].weight_quant->spec.scale = {1.0F, 1.0F};
    CHECK(contains(reason(graph), "2 scales, expected 1 or 4"));
    graph.nodes[0].weight_quant = quant;
    graph.nodes[0].weight_quant->spec.bits = 3;
    CHECK(contains(reason(graph), "bits 3 not in {2, 4, 8}"));
  }
}

TEST_CASE("graph: remove_dead keeps what the output needs") {
  GraphBuilder b;
  const ValueId x = b.input({1, 2, 4, 4});
  const ValueId kept = b.node(Relu{}, {x});
  const ValueId weights = b.random({3, 2, 1, 1});
  b.node(Relu{}, {b.node(Conv{}, {x, weights})});
  Graph graph = b.finish(kept);
  remove_dead(&graph);
  CHECK(graph.nodes.size() == 1);
  CHECK(graph.values[weights].data.empty());
  CHECK(reason(graph).empty());
}

}  // namespace mpq::convert
