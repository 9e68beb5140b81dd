#include <doctest/doctest.h>

#include <cmath>

#include "converter/eval.h"
#include "converter/passes/pass.h"
#include "graph_builder.h"

namespace mpq::convert {
namespace {

std::vector<ValueId> bn_parameters(GraphBuilder* b, ValueId x, int64_t channels,
                                   float mean_gain = 1.0F) {
  std::vector<float> variance = b->random_data(static_cast<size_t>(channels));
  for (float& v : variance) v = v * v + 0.1F;
  return {x, b->random({channels}, 0.3F, mean_gain), b->random({channels}), b->random({channels}),
          b->constant({channels}, variance)};
}

}  // namespace

TEST_CASE("fold_bn: the network is unchanged and has no batch norm") {
  GraphBuilder b;
  const ValueId x = b.input({1, 3, 9, 9});
  const ValueId conv = b.node(Conv{.stride_h = 2}, {x, b.random({8, 3, 3, 3}), b.random({8})});
  const ValueId bn = b.node(BatchNorm{}, bn_parameters(&b, conv, 8));
  const ValueId weights =
      b.random({8, 8, 1, 1});  // shared by two layers: folding one must not touch the other
  const ValueId left =
      b.node(BatchNorm{}, bn_parameters(&b, b.node(Conv{}, {bn, weights}), 8, -1.0F));
  const ValueId right = b.node(Conv{}, {bn, weights});
  const ValueId sum = b.node(Add{}, {left, right});
  const ValueId alone =
      b.node(BatchNorm{.epsilon = 1e-2F}, bn_parameters(&b, sum, 8));  // nothing to merge with
  const ValueId flat = b.node(Flatten{}, {b.node(AvgPool{}, {alone})});
  const ValueId y =
      b.node(BatchNorm{}, bn_parameters(&b, b.node(Linear{}, {flat, b.random({5, 8})}), 5));
  Graph graph = b.finish(y);
  const Checked done = run_passes(&graph, {.verify = true, .tolerance = 1e-5F});
  CHECK_MESSAGE(done.ok(), done.error().message);
  size_t convs = 0;
  for (const Node& node : graph.nodes) {
    CHECK_FALSE(std::holds_alternative<BatchNorm>(node.op));
    convs += std::holds_alternative<Conv>(node.op);
  }
  CHECK(convs == 4);  // three and the depthwise one that the lonely batch norm became
}

TEST_CASE("fold_bn: a convolution that something else reads is not touched") {
  GraphBuilder b;
  const ValueId conv = b.node(Conv{}, {b.input({1, 4, 5, 5}), b.random({4, 4, 1, 1})});
  const ValueId y = b.node(Add{}, {conv, b.node(BatchNorm{}, bn_parameters(&b, conv, 4))});
  Graph graph = b.finish(y);
  const Checked done = run_passes(&graph, {.verify = true, .tolerance = 1e-5F});
  CHECK_MESSAGE(done.ok(), done.error().message);
  CHECK(graph.nodes.size() == 3);
}

TEST_CASE("fold_bn: integer weights keep their codes; factors go into the scales") {
  GraphBuilder b;
  const ValueId conv =
      b.node(Conv{}, {b.input({1, 1, 1, 2}), b.constant({2, 1, 1, 1}, {1.0F, -1.5F})});
  WeightQuant quant;
  quant.spec = {.bits = 4, .is_signed = true, .scale = {0.5F}, .lo = -8, .hi = 7};
  quant.codes = {2, -3};
  b.graph.nodes.back().weight_quant = quant;
  const ValueId y =
      b.node(BatchNorm{.epsilon = 0.0F}, {conv, b.constant({2}, {4, -2}), b.constant({2}, {1, 0}),
                                          b.constant({2}, {0, 3}), b.constant({2}, {4, 1})});
  Graph graph = b.finish(y);
  SUBCASE("a negative factor flips the codes") {
    const Checked done = run_passes(&graph, {.verify = true, .tolerance = 1e-6F});
    REQUIRE_MESSAGE(done.ok(), done.error().message);
    const Node& node = graph.nodes[0];
    CHECK(node.weight_quant->codes == std::vector<int8_t>{2, 3});
    CHECK(node.weight_quant->spec.scale == std::vector<float>{1.0F, 1.0F});
    CHECK(graph.values[node.inputs[1]].data == std::vector<float>{2, 3});
    CHECK(graph.values[node.inputs[2]].data == std::vector<float>{1, 6});
  }
  SUBCASE("the lowest code has no negative") {
    graph.nodes[0].weight_quant->codes[1] = -8;
    const Checked done = run_passes(&graph);
    REQUIRE_FALSE(done.ok());
    CHECK(done.error().message.find("weight code -8 has no negative") != std::string::npos);
  }
}

TEST_CASE("run_passes: a pass that changes the network is caught") {
  GraphBuilder b;
  Graph graph = b.finish(b.node(Relu{}, {b.input({1, 2, 3, 3})}));
  constexpr Pass kBad[] = {{"bad", [](Graph* g) -> Checked {
                              g->nodes[0].op = Clip{.lo = 0.1F, .hi = 6.0F};
                              return Ok{};
                            }}};
  const Checked done = run_passes(&graph, kBad, {.verify = true});
  REQUIRE_FALSE(done.ok());
  CHECK(done.error().message.find("pass bad changed the network") != std::string::npos);
  constexpr Pass kBroken[] = {{"broken", [](Graph* g) -> Checked {
                                 g->values[g->nodes[0].output].shape = {1, 2, 3, 4};
                                 return Ok{};
                               }}};
  CHECK(run_passes(&graph, kBroken, {}).error().message.find("pass broken left a broken graph") !=
        std::string::npos);
}

TEST_CASE("run_passes: each pass is reported in order") {
  GraphBuilder b;
  Graph graph = b.finish(b.node(Relu{}, {b.input({1, 2, 3, 3})}));
  std::vector<std::string> seen;
  REQUIRE(run_passes(&graph, {.after = [&](const Pass& pass, const Graph&) {
            seen.emplace_back(pass.name);
          }}).ok());
  CHECK(seen == std::vector<std::string>{"infer_shapes", "fold_bn", "fold_constants"});
}

}  // namespace mpq::convert
