#include "converter/onnx/import.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "converter/onnx/importer.h"
#include "converter/onnx/sequence.h"

namespace mpq::convert {
namespace {

constexpr int64_t kMinOpset = 7, kMaxOpset = 26;
constexpr int kShownProblems = 20;

const Operand kAbsentOperand;

Error corrupt(const std::string& what) { return Error{Status::kCorrupt, "ONNX model: " + what}; }
std::string shown(const std::string& name) { return std::string("'").append(name, 0, 200) + "'"; }

bool is_default_domain(const std::string& domain) { return domain.empty() || domain == "ai.onnx"; }

}  // namespace

// ---- NodeView

const Operand& NodeView::in(size_t i) const {
  if (i >= inputs() || proto->input(static_cast<int>(i)).empty()) return kAbsentOperand;
  return importer->operand(proto->input(static_cast<int>(i)));
}

const onnx::AttributeProto* NodeView::find(const char* key) const {
  for (const onnx::AttributeProto& attribute : proto->attribute())
    if (attribute.name() == key) return &attribute;
  return nullptr;
}
int64_t NodeView::integer(const char* key, int64_t otherwise) const {
  const onnx::AttributeProto* attribute = find(key);
  return attribute != nullptr ? attribute->i() : otherwise;
}
float NodeView::real(const char* key, float otherwise) const {
  const onnx::AttributeProto* attribute = find(key);
  return attribute != nullptr ? attribute->f() : otherwise;
}
std::string NodeView::text(const char* key, const std::string& otherwise) const {
  const onnx::AttributeProto* attribute = find(key);
  return attribute != nullptr ? attribute->s() : otherwise;
}
std::vector<int64_t> NodeView::integers(const char* key, std::vector<int64_t> otherwise) const {
  const onnx::AttributeProto* attribute = find(key);
  if (attribute == nullptr) return otherwise;
  return {attribute->ints().begin(), attribute->ints().end()};
}
const Shape& NodeView::shape(size_t i) const {
  const Operand& operand = in(i);
  return operand.is_constant() ? operand.tensor->shape
                               : importer->graph().values[operand.value].shape;
}

// ---- Importer: services

Importer::Importer(const onnx::ModelProto& model, std::string folder, const ImportOptions& options,
                   int64_t tokens)
    : model_(model),
      folder_(std::move(folder)),
      options_(options),
      sequences_(std::make_unique<SequenceState>()) {
  sequences_->length = tokens;
  graph().sequence_length = static_cast<uint32_t>(tokens);
}
Importer::~Importer() = default;

void Importer::define(const NodeView& node, Operand operand, int output) {
  if (output < node.proto->output_size())
    operands_[node.proto->output(output)] = std::move(operand);
}

void Importer::alias(const NodeView& node, const std::string& of) {
  define(node, operand(of));
  alias_[node.proto->output(0)] = canonical(of);
}

void Importer::define_constant(const NodeView& node, Tensor tensor) {
  define(node, {.kind = Operand::Kind::kConstant,
                .tensor = std::make_shared<const Tensor>(std::move(tensor))});
}

std::string Importer::unique(const std::string& stem) {
  const std::string base = stem.substr(0, 200);
  const int count = names_[base]++;
  if (count == 0) return base;
  return unique(base + "_" + std::to_string(count));
}

Outcome Importer::emit(const NodeView& node, Op op, std::vector<ValueId> inputs,
                       Padding left_over) {
  Node added{.name = graph().nodes.empty() || graph().nodes.back().name != node.name
                         ? node.name
                         : unique(node.name),
             .op = std::move(op),
             .inputs = std::move(inputs)};
  Result<Shape> shape = infer_shape(graph(), added);
  if (!shape.ok())
    return Problem{shape.error().message,
                   "the shapes of the file contradict each other: export the model again"};
  added.output = graph().add_value({.name = node.proto->output(0), .shape = std::move(*shape)});
  define(node, {.kind = Operand::Kind::kActivation, .value = added.output, .padding = left_over});
  graph().nodes.push_back(std::move(added));
  return {};
}

ValueId Importer::constant(const TensorPtr& tensor, const Shape& shape) {
  std::vector<ValueId>& known = constants_[tensor.get()];
  for (const ValueId id : known)
    if (graph().values[id].shape == shape) return id;
  known.push_back(
      constant("constant_" + std::to_string(graph().values.size()), shape, tensor->reals));
  return known.back();
}

ValueId Importer::constant(std::string name, Shape shape, std::vector<float> data) {
  return graph().add_value({.name = std::move(name),
                            .shape = std::move(shape),
                            .data = std::move(data),
                            .is_constant = true});
}

const std::string& Importer::canonical(const std::string& name) const {
  const auto found = alias_.find(name);
  return found == alias_.end() ? name : found->second;
}

const Operand& Importer::operand(const std::string& name) const {
  const auto found = operands_.find(name);
  return found == operands_.end() ? kAbsentOperand : found->second;
}

const onnx::NodeProto* Importer::producer_of(const std::string& name) const {
  const auto found = producer_.find(canonical(name));
  return found == producer_.end() ? nullptr : &model_.graph().node(found->second);
}

bool Importer::is_graph_output(const std::string& name) const {
  for (const onnx::ValueInfoProto& output : model_.graph().output())
    if (output.name() == name) return true;
  return false;
}

int Importer::uses(const std::string& name) const {
  const auto found = uses_.find(name);
  return found == uses_.end() ? 0 : found->second;
}

bool Importer::is_read_by(const std::string& name, const char* op_type) const {
  for (const onnx::NodeProto& node : model_.graph().node())
    for (const std::string& input : node.input()) {
      if (input != name) continue;
      if (node.op_type() == op_type) return true;
      if (node.op_type() == "Identity" && node.output_size() == 1 &&
          is_read_by(node.output(0), op_type))
        return true;
    }
  return false;
}

ValueId Importer::fake_quant(const NodeView& node, ValueId value, const QuantSpec& spec) {
  const auto same = [&](const QuantSpec& other) {
    return other.bits == spec.bits && other.is_signed == spec.is_signed &&
           other.scale == spec.scale && other.zero_point == spec.zero_point &&
           other.lo == spec.lo && other.hi == spec.hi;
  };
  for (const uint32_t reader : consumers(graph(), value)) {
    const auto* known = std::get_if<FakeQuant>(&graph().nodes[reader].op);
    if (known != nullptr && same(known->spec)) return graph().nodes[reader].output;
  }
  Node added{.name = node.name, .op = FakeQuant{spec}, .inputs = {value}};
  added.output =
      graph().add_value({.name = node.proto->output(0), .shape = graph().values[value].shape});
  graph().nodes.push_back(std::move(added));
  return graph().nodes.back().output;
}

// ---- Importer: structure

Checked Importer::check_node(const onnx::NodeProto& node) const {
  const std::string where =
      "node " + shown(node.name()) + " (" + node.op_type().substr(0, 80) + "): ";
  if (node.attribute_size() > options_.max_attributes)
    return corrupt(where + std::to_string(node.attribute_size()) + " attributes, limit " +
                   std::to_string(options_.max_attributes));
  std::set<std::string> keys;
  for (const onnx::AttributeProto& attribute : node.attribute()) {
    if (!keys.insert(attribute.name()).second)
      return corrupt(where + "attribute " + shown(attribute.name()) + " is given twice");
    if (attribute.has_g() || attribute.graphs_size() > 0)
      return Error{Status::kUnsupported, "ONNX model: " + where +
                                             "subgraphs (If, Loop, Scan) are not supported; export "
                                             "the model without control flow"};
    const int items = std::max({attribute.ints_size(), attribute.floats_size(),
                                attribute.strings_size(), attribute.tensors_size()});
    if (items > options_.max_attribute_items ||
        attribute.s().size() > static_cast<size_t>(options_.max_attribute_items))
      return corrupt(where + "attribute " + shown(attribute.name()) + " is longer than " +
                     std::to_string(options_.max_attribute_items));
  }
  return Ok{};
}

Checked Importer::check_structure() const {
  const onnx::GraphProto& graph = model_.graph();
  if (graph.node_size() > options_.max_nodes)
    return corrupt(std::to_string(graph.node_size()) + " nodes, limit " +
                   std::to_string(options_.max_nodes));
  if (graph.initializer_size() > options_.max_initializers)
    return corrupt(std::to_string(graph.initializer_size()) + " initialisers, limit " +
                   std::to_string(options_.max_initializers));
  if (graph.sparse_initializer_size() > 0)
    return Error{Status::kUnsupported,
                 "ONNX model: sparse initialisers are not supported; export dense weights"};
  if (graph.output_size() == 0) return corrupt("the graph has no output");
  for (const onnx::NodeProto& node : graph.node()) MPQ_CHECK(check_node(node));
  return Ok{};
}

Checked Importer::read_opsets() {
  for (const onnx::OperatorSetIdProto& set : model_.opset_import())
    opsets_[is_default_domain(set.domain()) ? "" : set.domain()] = set.version();
  const auto found = opsets_.find("");
  if (found == opsets_.end()) return corrupt("no operator set of the default domain");
  if (found->second < kMinOpset || found->second > kMaxOpset)
    return Error{Status::kUnsupported, "ONNX model: operator set " + std::to_string(found->second) +
                                           " is not in " + std::to_string(kMinOpset) + ".." +
                                           std::to_string(kMaxOpset) +
                                           "; export the model with another opset version"};
  return Ok{};
}

Checked Importer::read_initializers() {
  std::set<std::string> seen;
  for (const onnx::TensorProto& proto : model_.graph().initializer()) {
    if (proto.name().empty() || !seen.insert(proto.name()).second)
      return corrupt("initialiser name " + shown(proto.name()) + " is empty or used twice");
    // Only what is read: a model may carry large tensors that no live node needs.
    if (uses_.find(proto.name()) == uses_.end() && !is_graph_output(proto.name())) continue;
    MPQ_TRY(Tensor tensor, read_tensor(proto, folder_, options_));
    operands_[proto.name()] = {.kind = Operand::Kind::kConstant,
                               .tensor = std::make_shared<const Tensor>(std::move(tensor))};
  }
  return Ok{};
}

Checked Importer::read_inputs() {
  for (const onnx::ValueInfoProto& input : model_.graph().input()) {
    if (operands_.count(input.name()) != 0)
      continue;  // an initialiser listed as input (IR version 3)
    if (uses_.find(input.name()) == uses_.end()) continue;
    if (sequences_->length != 0) {
      MPQ_CHECK(read_sequence_input(input));
      continue;
    }
    if (!graph().inputs.empty())
      return Error{Status::kUnsupported,
                   "ONNX model: inputs " + shown(graph().values[graph().inputs[0]].name) + " and " +
                       shown(input.name()) + "; only models with one input are supported"};
    const onnx::TypeProto::Tensor& type = input.type().tensor_type();
    const ElementInfo* info = element_info(type.elem_type());
    if (!input.type().has_tensor_type() || info == nullptr || info->is_integer)
      return Error{Status::kUnsupported,
                   "ONNX model: input " + shown(input.name()) + " is not a floating-point tensor"};
    Shape shape;
    for (const auto& dim : type.shape().dim())
      shape.push_back(dim.has_dim_value() ? dim.dim_value() : -1);
    if (!options_.input_shape.empty()) {
      bool fits = shape.size() == options_.input_shape.size() || !type.has_shape();
      for (size_t i = 1; fits && i < shape.size(); ++i)
        fits = shape[i] < 0 || shape[i] == options_.input_shape[i];
      if (!fits)
        return Error{Status::kInvalidArgument,
                     "input " + shown(input.name()) + " has shape " + to_string(shape) +
                         ", which contradicts the given " + to_string(options_.input_shape)};
      shape = options_.input_shape;
    }
    if (shape.size() != 4 && shape.size() != 2)
      return Error{Status::kUnsupported, "ONNX model: input " + shown(input.name()) + " has rank " +
                                             std::to_string(shape.size()) +
                                             ", expected 4 (NCHW) or 2"};
    if (shape[0] > 1)
      note("input " + input.name() + ": batch " + std::to_string(shape[0]) + " is replaced by 1");
    shape[0] = 1;
    for (const int64_t dim : shape)
      if (dim < 1 || dim > (1 << 20))
        return Error{Status::kInvalidArgument, "input " + shown(input.name()) +
                                                   " has no fixed size (" + to_string(shape) +
                                                   ", -1 is unknown); give the input shape"};
    const ValueId id = graph().add_value({.name = input.name(), .shape = shape});
    graph().inputs.push_back(id);
    operands_[input.name()] = {.kind = Operand::Kind::kActivation, .value = id};
  }
  return Ok{};
}

// Only nodes that an output depends on are imported. Also finds names defined twice, and values
// used before they are produced, which covers cycles.
Checked Importer::find_live_nodes() {
  const onnx::GraphProto& graph = model_.graph();
  std::set<std::string> defined;
  for (const onnx::TensorProto& proto : graph.initializer()) defined.insert(proto.name());
  for (const onnx::ValueInfoProto& input : graph.input()) defined.insert(input.name());
  for (int i = 0; i < graph.node_size(); ++i) {
    const onnx::NodeProto& node = graph.node(i);
    for (const std::string& input : node.input())
      if (!input.empty() && defined.count(input) == 0)
        return corrupt("node " + shown(node.name()) + " (" + node.op_type().substr(0, 80) +
                       ") reads " + shown(input) +
                       ", which nothing before it defines: the graph has a cycle, is not sorted, "
                       "or lacks a tensor");
    for (const std::string& output : node.output()) {
      if (output.empty()) continue;
      if (!defined.insert(output).second)
        return corrupt("value " + shown(output) + " is defined twice");
      producer_[output] = i;
    }
  }
  live_.assign(static_cast<size_t>(graph.node_size()), false);
  std::set<std::string> needed;
  for (const onnx::ValueInfoProto& output : graph.output()) {
    if (defined.count(output.name()) == 0)
      return corrupt("output " + shown(output.name()) + " is not defined");
    needed.insert(output.name());
  }
  for (int i = graph.node_size(); i-- > 0;) {
    const onnx::NodeProto& node = graph.node(i);
    for (const std::string& output : node.output())
      if (needed.count(output) != 0) live_[static_cast<size_t>(i)] = true;
    if (!live_[static_cast<size_t>(i)]) continue;
    for (const std::string& input : node.input()) {
      needed.insert(input);
      ++uses_[input];
    }
  }
  for (const onnx::ValueInfoProto& output : graph.output()) ++uses_[output.name()];
  return Ok{};
}

int64_t Importer::opset_of(const onnx::NodeProto& node) const {
  const auto found = opsets_.find(is_default_domain(node.domain()) ? "" : node.domain());
  return found == opsets_.end() ? 1 : found->second;  // exporters forget custom domains
}

Problem Importer::unknown_operator(const onnx::NodeProto& node) const {
  for (const onnx::FunctionProto& function : model_.functions())
    if (function.name() == node.op_type() && function.domain() == node.domain())
      return {"it calls a function of the model", "export with functions inlined"};
  if (node.domain() == "com.microsoft")
    return {"the operator is a fusion of ONNX Runtime",
            "export the model before ONNX Runtime optimises it"};
  return {"the operator is not supported",
          "replace it before the export, or leave this part out of the model"};
}

void Importer::import_node(const onnx::NodeProto& proto, int index) {
  const std::string stem =
      proto.name().empty() ? proto.op_type() + "_" + std::to_string(index) : proto.name();
  const NodeView node{this, &proto, unique(stem), opset_of(proto)};
  const auto poison = [&] {
    for (const std::string& output : proto.output())
      if (!output.empty() && operands_.count(output) == 0)
        operands_[output] = {.kind = Operand::Kind::kPoison};
  };
  for (const std::string& input : proto.input())
    if (operand(input).kind == Operand::Kind::kPoison) return poison();

  Outcome problem;
  if (const OpFunction import = function_of(proto))
    problem = import(node);
  else
    problem = unknown_operator(proto);
  if (!problem && operands_.count(proto.output(0)) == 0)
    problem =
        Problem{"its first output is not used as expected", "export the model in inference mode"};
  if (!problem) return poison();  // further outputs (Dropout's mask) have no value
  if (++problem_count_ <= kShownProblems) {
    const std::string domain =
        is_default_domain(proto.domain()) ? "" : proto.domain().substr(0, 80) + "::";
    problems_.push_back("node '" + node.name + "' (" + domain + proto.op_type().substr(0, 80) +
                        "): " + problem->reason + "; " + problem->remedy);
  }
  poison();
}

Checked Importer::import_nodes() {
  for (int i = 0; i < model_.graph().node_size(); ++i) {
    const onnx::NodeProto& node = model_.graph().node(i);
    if (!live_[static_cast<size_t>(i)]) continue;
    if (node.output_size() == 0) continue;
    import_node(node, i);
  }
  return Ok{};
}

Checked Importer::finish() {
  if (sequences_->length != 0) finish_sequences();
  for (const onnx::ValueInfoProto& output : model_.graph().output()) {
    const Operand& operand = this->operand(output.name());
    if (operand.kind == Operand::Kind::kPoison || operand.kind == Operand::Kind::kSymbol) continue;
    if (!operand.is_activation() || operand.padding.any()) {
      ++problem_count_;
      problems_.push_back("output " + shown(output.name()) +
                          ": is no activation tensor (constant, codes or unfinished arithmetic); "
                          "export a model whose output depends on its input");
      continue;
    }
    graph().outputs.push_back(operand.value);
  }
  if (problem_count_ > 0) {
    std::string text = std::to_string(problem_count_) + (problem_count_ == 1 ? " part" : " parts") +
                       " of the model cannot be imported:";
    for (const std::string& problem : problems_) text += "\n  " + problem;
    if (problem_count_ > static_cast<int>(problems_.size()))
      text += "\n  ... and " + std::to_string(problem_count_ - static_cast<int>(problems_.size())) +
              " more";
    return Error{Status::kUnsupported, text};
  }
  if (graph().inputs.empty()) return corrupt("the output depends on no input");
  remove_dead(&graph());
  if (sequences_->length != 0) name_apart(&graph());
  return check(graph());
}

Result<ImportedModel> Importer::run() {
  result_.graph.name =
      model_.graph().name().empty() ? "model" : model_.graph().name().substr(0, 200);
  MPQ_CHECK(check_structure());
  MPQ_CHECK(read_opsets());
  MPQ_CHECK(find_live_nodes());
  MPQ_CHECK(read_initializers());
  MPQ_CHECK(read_inputs());
  MPQ_CHECK(import_nodes());
  MPQ_CHECK(finish());
  return std::move(result_);
}

Result<ImportedModel> import_onnx(const onnx::ModelProto& model, const std::string& folder,
                                  const ImportOptions& options) {
  try {
    if (is_sequence_model(model)) return import_sequence_model(model, folder, options);
    return Importer(model, folder, options).run();
  } catch (const std::bad_alloc&) {
    return Error{Status::kOutOfMemory, "ONNX model: not enough memory for its tensors"};
  }
}

Result<ImportedModel> import_onnx(const std::string& path, const ImportOptions& options) {
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error) return Error{Status::kIo, path + ": " + error.message()};
  if (size > options.max_file_bytes)
    return Error{Status::kLimit, path + ": " + std::to_string(size) + " bytes, limit " +
                                     std::to_string(options.max_file_bytes)};
  std::ifstream file(path, std::ios::binary);
  if (!file) return Error{Status::kIo, path + ": cannot be opened"};
  onnx::ModelProto model;
  {
    google::protobuf::io::IstreamInputStream stream(&file);
    google::protobuf::io::CodedInputStream coded(&stream);
    coded.SetRecursionLimit(options.max_depth);
    coded.SetTotalBytesLimit(std::numeric_limits<int>::max());
    if (!model.ParseFromCodedStream(&coded) || !coded.ConsumedEntireMessage())
      return Error{Status::kCorrupt, path +
                                         ": not an ONNX model, truncated, or nested deeper than " +
                                         std::to_string(options.max_depth)};
  }
  if (!model.has_graph()) return Error{Status::kCorrupt, path + ": the ONNX model has no graph"};
  auto imported = import_onnx(model, std::filesystem::path(path).parent_path().string(), options);
  if (!imported.ok()) return Error{imported.error().code, path + ": " + imported.error().message};
  return imported;
}

}  // namespace mpq::convert
