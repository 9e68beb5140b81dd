// What functions of operators on symbols share.
#pragma once

#include "converter/onnx/sequence.h"

namespace mpq::convert {

inline constexpr const char* kExportAgain =
    "export the model in eval mode with torch.onnx.export, before other tools optimise it";

inline const Symbol* symbol_at(const NodeView& node, size_t i) { return node.in(i).symbol.get(); }
void define_symbol(const NodeView& node, Symbol symbol, int output = 0);
Outcome alias_symbol(const NodeView& node, size_t i);  // output 0 is operand i

// The rows that a symbol already is, or kNoValue.
ValueId known_rows(const Symbol& symbol);
bool is_identity(const Symbol& symbol);         // plain rows
std::optional<double> slope(const Samples& f);  // of a multiple of x
Symbol rows_symbol(ValueId value, Layout layout);
int64_t width_of(const NodeView& node, ValueId value);

// A symbol as an element-wise function of rows.
Outcome function_at(const NodeView& node, size_t i, Symbol* function);

// The number that all elements of a constant are.
std::optional<double> uniform(const Tensor& tensor);
std::optional<double> uniform_at(const NodeView& node, size_t i);
// Whether a constant has one number for each of the columns in the last dimension.
bool is_per_column(const Tensor& tensor, int64_t width);

// Adds a node to the graph.
Outcome add_node(const NodeView& node, const std::string& name, Op op, std::vector<ValueId> inputs,
                 ValueId* output);
// "encoder.layer.0.output.dense" of operand i, a tensor "bert.encoder.layer.0.output.dense.bias";
// empty for other tensors.
std::string layer_of(const NodeView& node, size_t i);
std::string readable_name(const NodeView& node);  // of the ONNX node
// A name beside that of the layer that makes `value`: "encoder.layer.0.intermediate.gelu".
std::string name_beside(const NodeView& node, ValueId value, const char* last);

// The Linear that makes `value`, with its outputs from..from + count times `factor`.
Outcome changed_linear(const NodeView& node, ValueId value, int64_t from, int64_t count,
                       double factor, ValueId* output);
// A bias for the Linear that makes `value`; false when there is none or it has one.
bool with_bias(const NodeView& node, ValueId value, const Tensor& bias, const std::string& name,
               ValueId* output);

// SequencePool of rows; its embedding at length 1.
Outcome pool(const NodeView& node, size_t i, bool mean, ValueId* output);
Outcome normalise(const NodeView& node, ValueId pooled, ValueId* output);

// Axes from an attribute or an operand, as 0..rank-1.
Outcome axes_of(const NodeView& node, size_t operand, size_t rank, std::vector<size_t>* axes);

std::span<const OpRow> sequence_constant_ops();    // sequence_constants.cc: nothing but constants
std::span<const OpRow> sequence_shape_ops();       // sequence_shape.cc
std::span<const OpRow> sequence_arithmetic_ops();  // sequence_arithmetic.cc
std::span<const OpRow> sequence_layer_ops();       // sequence_layers.cc

}  // namespace mpq::convert
