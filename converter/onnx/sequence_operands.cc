#include "converter/onnx/sequence_operands.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "converter/onnx/fold.h"
#include "converter/onnx/operands.h"

namespace mpq::convert {
namespace {

constexpr double kTolerance = 1e-5;

bool near(double a, double b) { return std::abs(a - b) <= kTolerance * (1.0 + std::abs(b)); }

template <typename Function>
bool equals(const Samples& f, Function function) {
  for (size_t i = 0; i < f.size(); ++i)
    if (!near(f[i], function(sample_place(i)))) return false;
  return true;
}

double gelu(double x) { return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2)); }
double gelu_tanh(double x) {
  constexpr double kCubic = 0.044715;
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + kCubic * x * x * x)));
}

Outcome emit_function(const NodeView& node, const Symbol& symbol, ValueId* value) {
  if (equals(symbol.f, [](double x) { return x; })) {
    *value = symbol.value;
    return {};
  }
  if (equals(symbol.f, gelu) || equals(symbol.f, gelu_tanh))
    return add_node(node, name_beside(node, symbol.value, "gelu"), Gelu{!equals(symbol.f, gelu)},
                    {symbol.value}, value);
  if (equals(symbol.f, [](double x) { return std::tanh(x); }))
    return add_node(node, name_beside(node, symbol.value, "tanh"), Tanh{}, {symbol.value}, value);
  if (equals(symbol.f, [](double x) { return std::max(x, 0.0); }))
    return add_node(node, name_beside(node, symbol.value, "relu"), Relu{}, {symbol.value}, value);
  if (const std::optional<double> factor = slope(symbol.f))
    return changed_linear(node, symbol.value, 0, width_of(node, symbol.value), *factor, value);
  return Problem{"it reads an element-wise function that is neither GELU, tanh nor ReLU",
                 "use one of these activations"};
}

// The positions added so far as a row a token.
Outcome position_rows(const NodeView& node, const Symbol& symbol, int64_t width, ValueId* value) {
  const int64_t length = node.importer->sequences().length;
  const Tensor zeros{.type = kFloat,
                     .shape = {length, width},
                     .reals = std::vector<float>(static_cast<size_t>(length * width))};
  Tensor sum = zeros;
  if (symbol.positions != nullptr) {
    Tensor given = *symbol.positions;
    given.grid = nullptr;
    while (given.shape.size() > 2 && given.shape[0] == 1) given.shape.erase(given.shape.begin());
    if (Outcome problem = fold_binary(
            given, zeros, [](float a, float b) { return a + b; },
            [](int64_t a, int64_t) { return a; }, &sum))
      return problem;
  }
  if (sum.shape != zeros.shape)
    return Problem{"positions of shape " + to_string(sum.shape) + " are added to embeddings " +
                       to_string(zeros.shape),
                   kExportAgain};
  *value = node.importer->constant("position_embeddings", sum.shape, std::move(sum.reals));
  return {};
}

Outcome emit_embedding(const NodeView& node, const Symbol& symbol, ValueId* value) {
  Importer& importer = *node.importer;
  if (symbol.words == nullptr)
    return Problem{"it reads embeddings of token types without those of words", kExportAgain};
  const int64_t width = symbol.words->shape[1];
  std::vector<ValueId> inputs = {symbol.value, kNoValue, kNoValue, kNoValue};
  inputs[2] = importer.constant("word_embeddings", symbol.words->shape, symbol.words->reals);
  if (Outcome problem = position_rows(node, symbol, width, &inputs[3])) return problem;
  if (symbol.types != nullptr) {
    inputs[1] = symbol.key;
    inputs.push_back(
        importer.constant("token_type_embeddings", symbol.types->shape, symbol.types->reals));
  }
  if (Outcome problem = add_node(node, "embeddings", Embedding{}, std::move(inputs), value))
    return problem;
  if (const auto& grid = symbol.words->grid) {
    if (grid->scale.size() > 1 && grid->axis != 0)
      return Problem{"the scales of word embeddings are not those of rows",
                     "quantise per tensor or per row"};
    importer.graph().nodes.back().weight_quant = weight_quant_of(*grid);
  }
  return {};
}

Outcome emit_normal(const NodeView& node, const Symbol& symbol, ValueId* value) {
  const int64_t width = width_of(node, symbol.value);
  const auto parameter = [&](const TensorPtr& given, const char* name, float otherwise) {
    return node.importer->constant(
        name, {width},
        given ? given->reals : std::vector<float>(static_cast<size_t>(width), otherwise));
  };
  return add_node(
      node, symbol.name.empty() ? readable_name(node) : symbol.name, LayerNorm{symbol.epsilon},
      {symbol.value, parameter(symbol.gamma, "gamma", 1.0F), parameter(symbol.beta, "beta", 0.0F)},
      value);
}

Node* linear_of(Graph* graph, ValueId value) {
  const int at = producer(*graph, value);
  if (at < 0) return nullptr;
  Node* const node = &graph->nodes[static_cast<size_t>(at)];
  return std::holds_alternative<Linear>(node->op) ? node : nullptr;
}

}  // namespace

double sample_place(size_t i) {
  constexpr double kStep = 0.2;
  return kStep * (static_cast<double>(i) - static_cast<double>(kSamplePoints / 2));
}

Samples identity_samples() {
  Samples f;
  for (size_t i = 0; i < f.size(); ++i) f[i] = sample_place(i);
  return f;
}

const char* describe(const Symbol& symbol) {
  switch (symbol.form) {
    case Symbol::Form::kIds:
      return "word indices";
    case Symbol::Form::kTypes:
      return "token types";
    case Symbol::Form::kEmbedding:
      return "embeddings";
    case Symbol::Form::kFunction:
      return "an element-wise function of rows";
    case Symbol::Form::kMean:
      return "the mean of each row";
    case Symbol::Form::kCentred:
      return "rows without their mean";
    case Symbol::Form::kCentredSquare:
      return "squared deviations from the mean";
    case Symbol::Form::kVariance:
      return "the variance of each row";
    case Symbol::Form::kDeviation:
    case Symbol::Form::kInverse:
      return "the deviation of each row";
    case Symbol::Form::kNormal:
      return "normalised rows";
    case Symbol::Form::kScores:
      return "attention scores";
    case Symbol::Form::kProbabilities:
      return "attention probabilities";
    case Symbol::Form::kPart:
      return "some columns of rows";
    case Symbol::Form::kTokenSum:
      return "a sum over tokens";
    case Symbol::Form::kSquareSum:
    case Symbol::Form::kLength:
      return "the length of each row";
  }
  return "unknown";
}

void define_symbol(const NodeView& node, Symbol symbol, int output) {
  symbol.emitted = kNoValue;
  node.importer->define(
      node,
      {.kind = Operand::Kind::kSymbol, .symbol = std::make_shared<const Symbol>(std::move(symbol))},
      output);
}

Outcome alias_symbol(const NodeView& node, size_t i) {
  node.importer->alias(node, node.proto->input(static_cast<int>(i)));
  return {};
}

bool is_identity(const Symbol& symbol) {
  return symbol.form == Symbol::Form::kFunction && equals(symbol.f, [](double x) { return x; });
}

std::optional<double> slope(const Samples& f) {
  const double factor = f.back() / sample_place(f.size() - 1);
  for (size_t i = 0; i < f.size(); ++i)
    if (!(std::abs(f[i] - factor * sample_place(i)) <= kTolerance * std::abs(f.back()))) return {};
  return factor;
}

ValueId known_rows(const Symbol& symbol) {
  return is_identity(symbol) ? symbol.value : symbol.emitted;
}

Symbol rows_symbol(ValueId value, Layout layout) {
  Symbol symbol;
  symbol.value = value;
  symbol.layout = std::move(layout);
  symbol.f = identity_samples();
  return symbol;
}

int64_t width_of(const NodeView& node, ValueId value) {
  return node.importer->graph().values[value].shape[1];
}

Outcome rows_of(const NodeView& node, const Operand& operand, ValueId* value) {
  if (operand.kind != Operand::Kind::kSymbol)
    return Problem{"it reads a constant or nothing where rows of tokens are expected",
                   kExportAgain};
  const Symbol& symbol = *operand.symbol;
  if (symbol.emitted == kNoValue) {
    Outcome problem;
    switch (symbol.form) {
      case Symbol::Form::kEmbedding:
        problem = emit_embedding(node, symbol, &symbol.emitted);
        break;
      case Symbol::Form::kFunction:
        problem = emit_function(node, symbol, &symbol.emitted);
        break;
      case Symbol::Form::kNormal:
        problem = emit_normal(node, symbol, &symbol.emitted);
        break;
      case Symbol::Form::kPart:
        problem =
            changed_linear(node, symbol.value, symbol.first, symbol.count, 1.0, &symbol.emitted);
        break;
      default:
        problem = Problem{std::string("it reads ") + describe(symbol), kExportAgain};
    }
    if (problem) return problem;
  }
  *value = symbol.emitted;
  return {};
}

Outcome function_at(const NodeView& node, size_t i, Symbol* function) {
  const Symbol* const symbol = symbol_at(node, i);
  if (symbol != nullptr && symbol->form == Symbol::Form::kFunction) {
    *function = *symbol;
    return {};
  }
  ValueId value = kNoValue;
  if (Outcome problem = rows_of(node, node.in(i), &value)) return problem;
  *function = rows_symbol(value, symbol->layout);
  return {};
}

std::optional<double> uniform(const Tensor& tensor) {
  if (tensor.elements() == 0) return {};
  for (size_t i = 1; i < tensor.elements(); ++i)
    if (tensor.at(i) != tensor.at(0)) return {};
  return tensor.at(0);
}

std::optional<double> uniform_at(const NodeView& node, size_t i) {
  return node.in(i).is_constant() ? uniform(*node.in(i).tensor) : std::nullopt;
}

bool is_per_column(const Tensor& tensor, int64_t width) {
  return !tensor.is_integer() && !tensor.shape.empty() && tensor.shape.back() == width &&
         static_cast<int64_t>(tensor.reals.size()) == width;
}

Outcome add_node(const NodeView& node, const std::string& name, Op op, std::vector<ValueId> inputs,
                 ValueId* output) {
  Graph& graph = node.importer->graph();
  Node added{.name = name, .op = std::move(op), .inputs = std::move(inputs)};
  Result<Shape> shape = infer_shape(graph, added);
  if (!shape.ok()) return Problem{shape.error().message, "export the model again"};
  added.output = graph.add_value({.name = added.name + ".out", .shape = std::move(*shape)});
  *output = added.output;
  graph.nodes.push_back(std::move(added));
  return {};
}

std::string layer_of(const NodeView& node, size_t i) {
  if (i >= node.inputs()) return "";
  std::string name = node.importer->canonical(node.proto->input(static_cast<int>(i)));
  for (const std::string suffix : {".bias", ".weight"}) {
    if (!name.ends_with(suffix)) continue;
    name.resize(name.size() - suffix.size());
    for (const char* const start : {"encoder.layer.", "embeddings.", "pooler."}) {
      const size_t at = name.find(start);
      if (at != std::string::npos && (at == 0 || name[at - 1] == '.')) return name.substr(at);
    }
    return name;
  }
  return "";
}

std::string readable_name(const NodeView& node) {
  std::string name = node.name;
  name.erase(0, name.find_first_not_of('/'));
  std::replace(name.begin(), name.end(), '/', '.');
  const std::string last = "." + node.proto->op_type();
  if (name.ends_with(last)) name.resize(name.size() - last.size());
  return name.empty() ? node.name : name;
}

std::string name_beside(const NodeView& node, ValueId value, const char* last) {
  const Node* const linear = linear_of(&node.importer->graph(), value);
  if (linear == nullptr) return readable_name(node);
  const size_t dot = linear->name.rfind('.');
  return (dot == std::string::npos ? linear->name : linear->name.substr(0, dot)) + "." + last;
}

Outcome changed_linear(const NodeView& node, ValueId value, int64_t from, int64_t count,
                       double factor, ValueId* output) {
  Graph& graph = node.importer->graph();
  const Node* const found = linear_of(&graph, value);
  if (found == nullptr)
    return Problem{"it cuts or scales rows that no linear layer makes", kExportAgain};
  const Node linear = *found;
  const auto cut = [&](const std::vector<float>& data, int64_t width) {
    std::vector<float> part(data.begin() + from * width, data.begin() + (from + count) * width);
    for (float& v : part) v = static_cast<float>(v * factor);
    return part;
  };
  if (factor != 1.0 && linear.weight_quant && !(factor > 0.0))
    return Problem{"it scales a quantised layer by a number that is not positive", kExportAgain};
  std::vector<ValueId> inputs = {linear.inputs[0]};
  const int64_t width = graph.values[linear.inputs[1]].shape[1];
  inputs.push_back(node.importer->constant("weights", {count, width},
                                           cut(graph.values[linear.inputs[1]].data, width)));
  if (linear.inputs.size() > 2)
    inputs.push_back(
        node.importer->constant("bias", {count}, cut(graph.values[linear.inputs[2]].data, 1)));
  const bool whole = count == graph.values[value].shape[1];
  if (Outcome problem =
          add_node(node, whole ? linear.name : readable_name(node), Linear{}, inputs, output))
    return problem;
  if (!linear.weight_quant) return {};
  WeightQuant quant = *linear.weight_quant;
  quant.codes = {linear.weight_quant->codes.begin() + from * width,
                 linear.weight_quant->codes.begin() + (from + count) * width};
  quant.positions.clear();
  if (quant.spec.scale.size() > 1)
    quant.spec.scale = {linear.weight_quant->spec.scale.begin() + from,
                        linear.weight_quant->spec.scale.begin() + from + count};
  for (float& scale : quant.spec.scale) scale = static_cast<float>(scale * factor);
  graph.nodes.back().weight_quant = std::move(quant);
  return {};
}

bool with_bias(const NodeView& node, ValueId value, const Tensor& bias, const std::string& name,
               ValueId* output) {
  Graph& graph = node.importer->graph();
  const Node* const found = linear_of(&graph, value);
  if (found == nullptr || found->inputs.size() > 2) return false;
  Node linear = *found;
  linear.inputs.push_back(
      node.importer->constant("bias", {graph.values[value].shape[1]}, bias.reals));
  const std::string chosen = name.empty() ? linear.name : name;
  if (add_node(node, chosen, Linear{}, linear.inputs, output)) return false;
  graph.nodes.back().weight_quant = std::move(linear.weight_quant);
  return true;
}

Outcome pool(const NodeView& node, size_t i, bool mean, ValueId* output) {
  ValueId value = kNoValue;
  if (Outcome problem = rows_of(node, node.in(i), &value)) return problem;
  return add_node(node, "pooling", SequencePool{mean, false}, {value}, output);
}

Outcome normalise(const NodeView& node, ValueId pooled, ValueId* output) {
  Graph& graph = node.importer->graph();
  const int at = producer(graph, pooled);
  const SequencePool* const before =
      at < 0 ? nullptr : std::get_if<SequencePool>(&graph.nodes[static_cast<size_t>(at)].op);
  if (before == nullptr)
    return Problem{"rows are brought to length 1 that are no pooled embedding",
                   "normalise behind the pooling"};
  const std::vector<ValueId> inputs = graph.nodes[static_cast<size_t>(at)].inputs;
  return add_node(node, "pooling", SequencePool{before->mean, true}, inputs, output);
}

Outcome axes_of(const NodeView& node, size_t operand, size_t rank, std::vector<size_t>* axes) {
  std::vector<int64_t> given = node.integers("axes");
  if (Outcome problem = constant_integers(node, operand, &given)) return problem;
  for (const int64_t a : given) {
    size_t axis = 0;
    if (!normalise_axis(a, rank, &axis))
      return Problem{"axis " + std::to_string(a) + " is wrong", kExportAgain};
    axes->push_back(axis);
  }
  return {};
}

}  // namespace mpq::convert
