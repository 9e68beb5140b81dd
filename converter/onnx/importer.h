// Inside of the importer: what an ONNX value has become so far, and what the operator functions may
// do. An operator function reads its node's operands and defines its outputs; anything it cannot
// express is a Problem, collected so that the user sees all of them at once.
#pragma once

#include <onnx/onnx_pb.h>

#include <map>
#include <span>
#include <unordered_map>

#include "converter/onnx/import.h"
#include "converter/onnx/tensor.h"

namespace mpq::convert {

struct Symbol;         // sequence.h
struct SequenceState;  // sequence.h

// Zero padding taken from a Pad node, waiting for the Conv or MaxPool that absorbs it.
struct Padding {
  uint32_t top = 0, left = 0, bottom = 0, right = 0;
  bool any() const { return (top | left | bottom | right) != 0; }
};

struct Operand {
  enum class Kind : uint8_t {
    kAbsent,      // an optional input that is not given
    kConstant,    // tensor
    kActivation,  // value, perhaps with padding
    kQuantised,   // codes of an activation: after QuantizeLinear or inside LSQ's Div, Clip, Round,
                  // Mul
    kDifference,  // a - b, from a Sub that only a straight-through residue may read
    kSymbol,      // what sequence.h makes of tokens
    kPoison,      // behind a problem that is already reported
  };
  Kind kind = Kind::kAbsent;
  TensorPtr tensor;
  ValueId value = kNoValue;  // kActivation; kQuantised: the source
  Padding padding;
  std::shared_ptr<const Symbol> symbol;

  // kQuantised
  struct Codes {
    float scale = 1.0F;
    int64_t zero_point = 0;
    std::optional<int64_t> lo, hi;  // of the codes; absent: not clipped yet
    bool rounded = false;
    bool linear = false;  // QuantizeLinear (ends in DequantizeLinear), else LSQ (ends in Mul)
    int32_t type = 0;     // element type of QuantizeLinear's output
  } codes;

  bool is_constant() const { return kind == Kind::kConstant; }
  bool is_activation() const { return kind == Kind::kActivation; }
};

// Why a node cannot be imported, and what the user can do.
struct Problem {
  std::string reason, remedy;
};
// The outcome of an operator function: nothing, or a problem.
using Outcome = std::optional<Problem>;

class Importer;

// One ONNX node as its operator function sees it.
struct NodeView {
  Importer* importer;
  const onnx::NodeProto* proto;
  std::string name;  // unique
  int64_t opset;     // version of the node's domain

  const Operand& in(size_t i) const;  // kAbsent when not given
  size_t inputs() const { return static_cast<size_t>(proto->input_size()); }
  bool has_attribute(const char* key) const { return find(key) != nullptr; }
  int64_t integer(const char* key, int64_t otherwise) const;
  float real(const char* key, float otherwise) const;
  std::string text(const char* key, const std::string& otherwise) const;
  std::vector<int64_t> integers(const char* key, std::vector<int64_t> otherwise = {}) const;
  const onnx::AttributeProto* find(const char* key) const;

  // Shape of operand i (constant or activation).
  const Shape& shape(size_t i) const;
};

using OpFunction = Outcome (*)(const NodeView& node);

class Importer {
 public:
  // tokens: of the sequence that is followed, in a graph of sequences
  Importer(const onnx::ModelProto& model, std::string folder, const ImportOptions& options,
           int64_t tokens = 0);
  ~Importer();
  Importer(const Importer&) = delete;
  Importer& operator=(const Importer&) = delete;
  Result<ImportedModel> run();

  // For operator functions.
  void define(const NodeView& node, Operand operand, int output = 0);
  void define_constant(const NodeView& node, Tensor tensor);
  void alias(const NodeView& node, const std::string& of);  // output 0 is that value
  Result<Tensor> read_constant(const onnx::TensorProto& proto) const {
    return read_tensor(proto, folder_, options_);
  }
  // Adds an IR node; the error of shape inference is returned as a problem.
  Outcome emit(const NodeView& node, Op op, std::vector<ValueId> inputs, Padding left_over = {});
  ValueId constant(const TensorPtr& tensor, const Shape& shape);  // a constant of the graph, shared
  ValueId constant(std::string name, Shape shape, std::vector<float> data);
  void note(std::string text) { result_.notes.push_back(std::move(text)); }
  const Operand& operand(const std::string& name) const;
  // The name behind Identity nodes; the node that produces a name, or null.
  const std::string& canonical(const std::string& name) const;
  const onnx::NodeProto* producer_of(const std::string& name) const;
  bool is_graph_output(const std::string& name) const;
  int uses(const std::string& name) const;
  bool is_read_by(const std::string& name, const char* op_type) const;  // also through Identity
  Graph& graph() { return result_.graph; }
  SequenceState& sequences() { return *sequences_; }
  std::string unique(const std::string& stem);
  // x on the grid `spec`: one FakeQuant node per value and grid.
  ValueId fake_quant(const NodeView& node, ValueId value, const QuantSpec& spec);

 private:
  Checked check_structure() const;
  Checked check_node(const onnx::NodeProto& node) const;
  Checked read_opsets();
  Checked read_initializers();
  Checked read_inputs();
  Checked find_live_nodes();
  Checked import_nodes();
  void import_node(const onnx::NodeProto& proto, int index);
  Problem unknown_operator(const onnx::NodeProto& node) const;
  Checked read_sequence_input(const onnx::ValueInfoProto& input);
  OpFunction function_of(const onnx::NodeProto& proto) const;
  void finish_sequences();
  Checked finish();
  int64_t opset_of(const onnx::NodeProto& node) const;

  const onnx::ModelProto& model_;
  const std::string folder_;
  const ImportOptions& options_;
  ImportedModel result_;
  std::unique_ptr<SequenceState> sequences_;
  std::map<std::string, int64_t> opsets_;
  std::unordered_map<std::string, Operand> operands_;
  std::unordered_map<std::string, std::string> alias_;
  std::unordered_map<std::string, int> producer_, uses_;
  std::vector<bool> live_;
  std::unordered_map<std::string, int> names_;
  std::unordered_map<const Tensor*, std::vector<ValueId>> constants_;
  std::vector<std::string> problems_;
  int problem_count_ = 0;
};

struct OpRow {
  const char* op_type;
  OpFunction import;
};
// Operator functions by name; null when the operator is unknown. Domains: "" and the quantisation
// domains listed in ops.cc.
OpFunction find_op(const std::string& domain, const std::string& op_type);

std::span<const OpRow> layer_ops();       // ops_layers.cc: Conv, Gemm, pooling, activations
std::span<const OpRow> shape_ops();       // ops_shape.cc: Reshape, Shape, Gather, ...
std::span<const OpRow> arithmetic_ops();  // ops_arithmetic.cc: Add, Sub, Mul, Div, Clip, Round, ...
std::span<const OpRow>
quantisation_ops();  // ops_quantise.cc: QuantizeLinear, DequantizeLinear, Quant

}  // namespace mpq::convert
