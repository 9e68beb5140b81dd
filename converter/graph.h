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
  Shape shape;              // NCHW / [M, K]; batch 1; of a sequence graph [1, C], a row a token
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
  QuantSpec spec;  // several scales: of as many equal parts of a row
};                 // x -> x on the grid

// Operators on rows of tokens, see Graph::sequence_length.
struct Embedding {  // ids [1], types [1]?, words [V,H], positions [P,H], type_rows [K,H]?
  uint32_t first_position = 0;  // row of positions for the first token
};                              // -> [1,H], their sum
struct LayerNorm {
  float epsilon = 1e-12F;
};  // x, gamma, beta
struct Gelu {
  bool tanh = false;  // by its tanh approximation, else by the error function
};                    // x
struct Tanh {};       // x
struct Attention {    // q, k, v [1,H], relative_bias [heads, 2 * sequence_length - 1]?
  uint32_t heads = 1;
};  // softmax(q k^T / sqrt(H / heads) + bias[j - i]) v within each sequence
struct SequencePool {
  bool mean = false;       // of the tokens; else the first one
  bool normalise = false;  // to length 1
};                         // x, a row a token -> a row a sequence

using Op = std::variant<Conv, Linear, BatchNorm, Relu, Clip, Add, MaxPool, AvgPool, Flatten,
                        FakeQuant, Embedding, LayerNorm, Gelu, Tanh, Attention, SequencePool>;

// Integer weights of a Conv, Linear or Embedding (its words): once set, codes * scale is the weight
// and the float value is only a copy for inspection (kept equal by whoever changes either).
struct WeightQuant {
  QuantSpec spec;             // is_signed, zero_point 0; scale has 1 or O entries
  std::vector<int8_t> codes;  // canonical order of the weights value
  // What was rounded to the codes, in codes: where training starts. Empty: not known.
  std::vector<float> positions = {};
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
  // Longest sequence in tokens; 0: not a sequence graph. Values then have a row a token, of all
  // sequences one behind the other, and behind a SequencePool a row a sequence.
  uint32_t sequence_length = 0;

  ValueId add_value(Value value) {
    values.push_back(std::move(value));
    return static_cast<ValueId>(values.size() - 1);
  }
};

// Index of the node producing a value, or -1; nodes reading it, in order.
int producer(const Graph& graph, ValueId value);
std::vector<uint32_t> consumers(const Graph& graph, ValueId value);
// The inputs that are no parameters, without absent ones; the input that may have weight codes.
std::vector<ValueId> activations(const Node& node);
size_t weights_input(const Node& node);
// The weights that a node means: codes * scale when it has integer weights.
std::vector<float> real_weights(const Graph& graph, const Node& node);
const char* op_name(const Op& op);      // "conv", "fake_quant"
std::string print(const Graph& graph);  // one line per node: for --dump-after
Result<Shape> infer_shape(const Graph& graph, const Node& node);  // of the output, from the inputs
Checked check(const Graph& graph);  // invariants: order, arity, shapes, codes
void remove_dead(Graph* graph);     // nodes whose outputs nobody reads

}  // namespace mpq::convert
