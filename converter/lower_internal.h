// What lower() knows about graphs: their normal form, grids and chains. Private to lower*.cc.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "converter/graph.h"
#include "converter/lower.h"

namespace mpq::convert::lowering {

// Rewrites into the form that emission expects, exactly:
//   FakeQuant(MaxPool(x)) -> MaxPool(FakeQuant(x))   both are monotone
//   FakeQuant(FakeQuant(x)) on one grid -> FakeQuant(x); Relu of codes that are never negative -> x
void normalise(Graph* graph);

// An activation's grid with codes stored unsigned: signed ones are moved up by half the range.
struct Grid {
  DType type = DType::kU8;
  double scale = 0.0;
  int32_t zero_point = 0, lo = 0, hi = 255;
};
bool same_grid(const QuantSpec& a, const QuantSpec& b);
Result<Grid> activation_grid(const Node& fake_quant);

// What lies between a sum and its codes, read backwards from the value that the FakeQuant nodes
// read: base -> [Add of residual codes] -> [Gelu, Tanh] -> [Relu, Clip]. The base is a Conv,
// Linear, AvgPool, an Add of two codes, or, when it is null, a value: a graph input, codes on
// another grid, or f32 rows of tokens or sequences.
struct Chain {
  const Node* base = nullptr;
  ValueId value = kNoValue;  // when base is null
  ValueId residual = kNoValue;
  format::Activation activation = format::Activation::kNone;
  double lo = -std::numeric_limits<double>::infinity();  // of Relu and Clip, as real numbers
  double hi = std::numeric_limits<double>::infinity();
};

// Which values hold codes; a Flatten of codes, or of sums, is looked through.
bool is_codes(const Graph& graph, ValueId value);
Checked check_flatten(const Graph& graph, const Node& node);  // only 1x1 planes
Result<Chain> trace_chain(const Graph& graph, ValueId value);

}  // namespace mpq::convert::lowering
