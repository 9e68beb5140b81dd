#include "converter/onnx/sequence.h"

#include <algorithm>
#include <set>

#include "converter/onnx/operands.h"
#include "converter/onnx/sequence_operands.h"

namespace mpq::convert {
namespace {

OpFunction find(std::span<const OpRow> rows, const std::string& op_type) {
  for (const OpRow& row : rows)
    if (op_type == row.op_type) return row.import;
  return nullptr;
}

bool is_index_input(const onnx::ValueInfoProto& input) {
  const onnx::TypeProto::Tensor& type = input.type().tensor_type();
  return input.type().has_tensor_type() &&
         (type.elem_type() == kInt64 || type.elem_type() == kInt32) &&
         (!type.has_shape() || type.shape().dim_size() == 2);
}

// What an input of a graph of sequences is, by its name.
enum class Role { kIds, kTypes, kMask, kPositions, kUnknown };
Role role_of(const std::string& name) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has("mask")) return Role::kMask;
  if (has("type") || has("segment")) return Role::kTypes;
  if (has("position")) return Role::kPositions;
  return has("ids") || has("tokens") ? Role::kIds : Role::kUnknown;
}

// The fixed number of tokens of the inputs, or 0.
int64_t fixed_tokens(const onnx::ModelProto& model) {
  for (const onnx::ValueInfoProto& input : model.graph().input()) {
    const auto& shape = input.type().tensor_type().shape();
    if (is_index_input(input) && shape.dim_size() == 2 && shape.dim(1).has_dim_value() &&
        shape.dim(1).dim_value() > 0)
      return shape.dim(1).dim_value();
  }
  return 0;
}

Checked same_structure(const Graph& a, const Graph& b) {
  bool same = a.nodes.size() == b.nodes.size();
  for (size_t i = 0; same && i < a.nodes.size(); ++i)
    same = a.nodes[i].op.index() == b.nodes[i].op.index() &&
           a.nodes[i].inputs.size() == b.nodes[i].inputs.size();
  if (same) return Ok{};
  return Error{Status::kUnsupported, "ONNX model: it computes something else for sequences of " +
                                         std::to_string(a.sequence_length) + " than of " +
                                         std::to_string(b.sequence_length) + " tokens"};
}

}  // namespace

OpFunction find_sequence_op(const std::string& op_type) {
  for (const auto table : {sequence_shape_ops, sequence_arithmetic_ops, sequence_layer_ops})
    if (const OpFunction found = find(table(), op_type)) return found;
  return nullptr;
}

OpFunction find_sequence_constant_op(const std::string& op_type) {
  return find(sequence_constant_ops(), op_type);
}

bool is_sequence_model(const onnx::ModelProto& model) {
  return std::any_of(model.graph().input().begin(), model.graph().input().end(),
                     [](const onnx::ValueInfoProto& input) {
                       return is_index_input(input) && role_of(input.name()) == Role::kIds;
                     });
}

// Followed twice unless the length is fixed: a short sequence shows how many positions there are,
// and that the network is the same for sequences of both lengths.
Result<ImportedModel> import_sequence_model(const onnx::ModelProto& model,
                                            const std::string& folder,
                                            const ImportOptions& options) {
  constexpr int64_t kProbe = 7, kMostTokens = 8192;
  if (!options.input_shape.empty())
    return Error{Status::kInvalidArgument, "an input shape is for networks of images"};
  const auto follow = [&](int64_t tokens, SequenceState* state) -> Result<ImportedModel> {
    Importer importer(model, folder, options, tokens);
    MPQ_TRY(ImportedModel imported, importer.run());
    *state = importer.sequences();
    return imported;
  };
  const int64_t fixed = fixed_tokens(model), wanted = options.max_tokens;
  SequenceState state;
  if (fixed > kMostTokens || wanted > kMostTokens)
    return Error{Status::kLimit, "ONNX model: sequences of " +
                                     std::to_string(std::max(fixed, wanted)) + " tokens, limit " +
                                     std::to_string(kMostTokens)};
  if (fixed != 0 && wanted != 0 && wanted != fixed)
    return Error{Status::kInvalidArgument, "sequences of " + std::to_string(wanted) +
                                               " tokens, the model was exported for exactly " +
                                               std::to_string(fixed)};
  if (fixed != 0) return follow(fixed, &state);
  Graph probe;
  {
    MPQ_TRY(ImportedModel imported, follow(kProbe, &state));
    probe = std::move(imported.graph);
    for (Value& value : probe.values) std::vector<float>().swap(value.data);
  }
  int64_t tokens = wanted != 0 ? wanted : std::min(state.longest, kMostTokens);
  if (wanted == 0 && options.most_tokens != 0)
    tokens = tokens == 0 ? options.most_tokens
                         : std::min(tokens, static_cast<int64_t>(options.most_tokens));
  if (tokens == 0)
    return Error{Status::kInvalidArgument,
                 "ONNX model: it has no table of positions; give the longest sequence"};
  if (state.longest != 0 && tokens > state.longest)
    return Error{Status::kInvalidArgument, "sequences of " + std::to_string(tokens) +
                                               " tokens, the network has positions for " +
                                               std::to_string(state.longest)};
  MPQ_TRY(ImportedModel imported, follow(tokens, &state));
  MPQ_CHECK(same_structure(probe, imported.graph));
  return imported;
}

void name_apart(Graph* graph) {
  std::set<std::string> names;
  for (Node& node : graph->nodes) {
    const std::string name = node.name;
    for (size_t i = 1; !names.insert(node.name).second; ++i)
      node.name = name + "_" + std::to_string(i);
  }
}

// ---- parts of Importer

OpFunction Importer::function_of(const onnx::NodeProto& proto) const {
  if (sequences_->length == 0) return find_op(proto.domain(), proto.op_type());
  if (proto.domain().empty() || proto.domain() == "ai.onnx") {
    for (const std::string& input : proto.input()) {
      if (operand(input).kind == Operand::Kind::kSymbol) return find_sequence_op(proto.op_type());
      if (operand(input).symbol != nullptr)  // its codes
        return proto.op_type() == "DequantizeLinear" ? find_sequence_op(proto.op_type()) : nullptr;
    }
    if (const OpFunction found = find_sequence_constant_op(proto.op_type())) return found;
  }
  return find_op(proto.domain(), proto.op_type());
}

Checked Importer::read_sequence_input(const onnx::ValueInfoProto& input) {
  const int64_t length = sequences_->length;
  const std::string& name = input.name();
  const Shape shape{1, length};
  const auto elements = static_cast<size_t>(length);
  const int32_t type = input.type().tensor_type().elem_type();
  const ElementInfo* const info = element_info(type);
  Tensor constant{.type = type, .shape = shape};
  const Role role = role_of(name);
  const bool known = info != nullptr && (role == Role::kMask || is_index_input(input));
  if (!known || role == Role::kUnknown)
    return Error{Status::kUnsupported,
                 "ONNX model: input '" + name.substr(0, 200) +
                     "' is none of a network of sequences, which has input_ids, token_type_ids, "
                     "attention_mask and position_ids"};
  if (role == Role::kMask) {
    constant.reals.assign(info->is_integer ? 0 : elements, 1.0F);
    constant.integers.assign(info->is_integer ? elements : 0, 1);
  } else if (role == Role::kPositions) {
    for (int64_t i = 0; i < length; ++i) constant.integers.push_back(i);
  } else {
    auto symbol = std::make_shared<Symbol>();
    symbol->form = role == Role::kIds ? Symbol::Form::kIds : Symbol::Form::kTypes;
    symbol->layout = {{}, {{Axis::kToken, length, 1}}};
    symbol->value = graph().add_value({.name = name, .shape = {1}});
    graph().inputs.push_back(symbol->value);
    operands_[name] = {.kind = Operand::Kind::kSymbol, .symbol = std::move(symbol)};
    return Ok{};
  }
  operands_[name] = {.kind = Operand::Kind::kConstant,
                     .tensor = std::make_shared<const Tensor>(std::move(constant))};
  return Ok{};
}

// The output that matters: an embedding of sentences where the model has one, else the first.
// Logits of the start and the end of an answer become the columns of one output.
void Importer::finish_sequences() {
  const auto& outputs = model_.graph().output();
  int chosen = 0;
  for (int i = 0; i < outputs.size(); ++i)
    if (outputs[i].name() == "sentence_embedding") chosen = i;
  const Operand& operand = this->operand(outputs[chosen].name());
  if (operand.kind != Operand::Kind::kSymbol) return;
  const Symbol& symbol = *operand.symbol;
  ValueId value = symbol.value;
  int64_t columns_seen = 0;
  if (symbol.form == Symbol::Form::kPart)
    for (const onnx::ValueInfoProto& output : outputs) {
      const Operand& part = this->operand(output.name());
      if (part.kind == Operand::Kind::kSymbol && part.symbol->form == Symbol::Form::kPart &&
          part.symbol->value == symbol.value && part.symbol->first == columns_seen)
        ++columns_seen;
    }
  const bool whole = columns_seen > 0 && columns_seen == graph().values[value].shape[1] &&
                     columns_seen == outputs.size();
  onnx::NodeProto nothing;
  nothing.add_input(outputs[chosen].name());
  const NodeView view{this, &nothing, outputs[chosen].name(), 0};
  if (!whole) {
    if (const Outcome problem = rows_of(view, operand, &value)) {
      ++problem_count_;
      problems_.push_back("output '" + outputs[chosen].name().substr(0, 200) +
                          "': " + problem->reason + "; " + problem->remedy);
      return;
    }
    for (int i = 0; i < outputs.size(); ++i)
      if (i != chosen) note("output " + outputs[i].name() + " is left out");
  }
  graph().outputs = {value};
  for (const Node& node : graph().nodes)  // indices before types, whatever the file's order
    if (std::holds_alternative<Embedding>(node.op)) {
      graph().inputs = {node.inputs[0]};
      if (node.inputs[1] != kNoValue) graph().inputs.push_back(node.inputs[1]);
    }
}

}  // namespace mpq::convert
