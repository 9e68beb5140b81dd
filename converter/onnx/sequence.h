// ONNX graphs of sequences (BERT, MPNet and their kin) as graphs of rows of tokens.
//
// Such a graph is followed node by node for one sequence of a known length without padding: masks
// are ones, positions are 0, 1, 2, ..., so that everything an exporter computes from them, and from
// shapes, is constant. What depends on the words is an Operand of kind kSymbol: either rows of the
// graph under some layout, or an intermediate of a layer normalisation, an attention, a pooling or
// an element-wise function, which becomes a node once it is complete and another node reads it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "converter/onnx/importer.h"
#include "converter/onnx/sequence_layout.h"

namespace mpq::convert {

// An element-wise function, by its values at kSamplePoints equidistant places: that is the same
// however an exporter writes it.
inline constexpr size_t kSamplePoints = 61;
using Samples = std::array<double, kSamplePoints>;
double sample_place(size_t i);  // symmetric around 0
Samples identity_samples();

struct Symbol {
  enum class Form : uint8_t {
    kIds,            // word indices; value: the graph's input
    kTypes,          // token types; value: the graph's input
    kEmbedding,      // words[ids] + types[type] + positions so far
    kFunction,       // f(value)
    kMean,           // of each row of value
    kCentred,        // value - its mean
    kCentredSquare,  // (value - its mean)^2
    kVariance,       // of each row of value, + epsilon
    kDeviation,      // square root of that
    kInverse,        // 1 / that
    kNormal,         // (value - its mean) / deviation * gamma + beta
    kScores,         // factor * (value key^T) + bias
    kProbabilities,  // softmax of that
    kPart,           // columns first.. of value
    kTokenSum,       // of value over the tokens
    kSquareSum,      // of squares of each row of value
    kLength,         // square root of that
  };
  Form form = Form::kFunction;
  Layout layout;
  ValueId value = kNoValue;
  Samples f = {};
  float epsilon = 0.0F;
  TensorPtr gamma, beta;              // null: not yet given
  TensorPtr words, types, positions;  // null: not (yet) part of the sum
  ValueId key = kNoValue;
  double factor = 1.0;
  TensorPtr bias;
  int64_t heads = 1;
  int64_t first = 0, count = 0;        // kPart
  std::string name;                    // of the node that it becomes; empty: the ONNX node's
  mutable ValueId emitted = kNoValue;  // once it has become a node
};
using SymbolPtr = std::shared_ptr<const Symbol>;

// What is known of the sequences of a graph being imported.
struct SequenceState {
  int64_t length = 0;   // of the sequence that is followed; 0: not a graph of sequences
  int64_t longest = 0;  // that the network has positions for; 0: not found
};

// Functions of nodes that read a symbol, and of constants beyond those that all graphs have; null
// when the operator is unknown.
OpFunction find_sequence_op(const std::string& op_type);
OpFunction find_sequence_constant_op(const std::string& op_type);

bool is_sequence_model(const onnx::ModelProto& model);
Result<ImportedModel> import_sequence_model(const onnx::ModelProto& model,
                                            const std::string& folder,
                                            const ImportOptions& options);
void name_apart(Graph* graph);  // nodes that share a name

// A symbol as rows of the graph.
Outcome rows_of(const NodeView& node, const Operand& operand, ValueId* value);
const char* describe(const Symbol& symbol);

}  // namespace mpq::convert
