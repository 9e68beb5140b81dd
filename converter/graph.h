// The converter's intermediate representation: a float graph with explicit fake-quantisation.
// Importers produce it (float models without, quantised ones with FakeQuant and weight codes),
// passes rewrite it, eval.h runs it in float, lower.h turns a fully quantised one into a
// format::Model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "format/model.h"
#include "format/status.h"
#include "format/types.h"

namespace mpq::convert {

using ValueId = uint32_t;
inline constexpr ValueId kNoValue = 0xFFFFFFFFU;

// Quantisation of a tensor: code = clamp(round_half_even(x / scale) + zero_point, lo, hi), x /
// scale in binary32.
struct QuantSpec {
  int bits = 8;  // 8, 4 or 2
  bool is_signed = false;
  std::vector<float> scale;  // one, or one per channel (weights: axis 0)
  int32_t zero_point = 0;
  int32_t lo = 0, hi = 255;  // codes; narrower than the width when the source clips (narrow range)
};

struct Value {
  std::string name;
  Shape shape;              // NCHW / [M, K]; batch 1
  std::vector<float> data;  // constants only
  bool is_constant = false;
};

// Operators. Inputs by position: in the comment. All have one output.
struct Conv {  // x, weights [O,I,R,S], bias [O]?
  uint32_t stride_h = 1, stride_w = 1, pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  uint32_t dilation_h = 1, dilation_w = 1, groups = 1;
};
struct Linear {};  // x [M,K], weights [O,K], bias [O]?
struct BatchNorm {
  float epsilon = 1e-5F;
};               // x, gamma, beta, mean, variance
struct Relu {};  // x
struct Clip {
  float lo = 0.0F, hi = 6.0F;
};              // x
struct Add {};  // a, b (same shape)
struct MaxPool {
  uint32_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  uint32_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
};
struct AvgPool {
  uint32_t kernel_h = 0, kernel_w = 0, stride_h = 1, stride_w = 1;
};                  // 0: global
struct Flatten {};  // -> [N, rest]
struct FakeQuant {
  QuantSpec spec;
};  // x -> x on the grid

using Op =
    std::variant<Conv, Linear, BatchNorm, Relu, Clip, Add, MaxPool, AvgPool, Flatten, FakeQuant>;

// Integer weights of a Conv or Linear: once set, codes * scale is the weight and the float value
// input 1 is only a copy for inspection (kept equal by whoever changes either).
struct WeightQuant {
  QuantSpec spec;             // is_signed, zero_point 0; scale has 1 or O entries
  std::vector<int8_t> codes;  // canonical order of the weights value
};

struct Node {
  std::string name;  // unique; the key of precision maps
  Op op;
  std::vector<ValueId> inputs;
  ValueId output = kNoValue;
  std::optional<WeightQuant> weight_quant;
};

struct Graph {
  std::string name;
  std::vector<Value> values;
  std::vector<Node> nodes;  // topological order
  std::vector<ValueId> inputs, outputs;

  ValueId add_value(Value value) {
    values.push_back(std::move(value));
    return static_cast<ValueId>(values.size() - 1);
  }
};

// Index of the node producing a value, or -1; nodes reading it, in order.
int producer(const Graph& graph, ValueId value);
std::vector<uint32_t> consumers(const Graph& graph, ValueId value);
const char* op_name(const Op& op);      // "conv", "fake_quant"
std::string print(const Graph& graph);  // one line per node: for --dump-after
Result<Shape> infer_shape(const Graph& graph, const Node& node);  // of the output, from the inputs
Checked check(const Graph& graph);  // invariants: order, arity, shapes, codes
void remove_dead(Graph* graph);     // nodes whose outputs nobody reads

}  // namespace mpq::convert
