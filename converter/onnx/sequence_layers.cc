// Linear layers, attention and normalisation.

#include <algorithm>
#include <cmath>

#include "converter/onnx/fold.h"
#include "converter/onnx/operands.h"
#include "converter/onnx/sequence_operands.h"

namespace mpq::convert {
namespace {

using Form = Symbol::Form;

// Weights [K, N], or [N, K] when already transposed.
Outcome linear(const NodeView& node, bool transposed, float alpha, float beta) {
  ValueId x = kNoValue;
  if (Outcome problem = rows_of(node, node.in(0), &x)) return problem;
  if (Outcome problem = expect_constant(node, 1)) return problem;
  const TensorPtr& given = node.in(1).tensor;
  const Layout& layout = symbol_at(node, 0)->layout;
  const int64_t width = width_of(node, x);
  if (!is_rows(layout, width))
    return Problem{"it reads rows of shape " + to_string(shape_of(layout)) +
                       " whose columns are split or moved",
                   kExportAgain};
  if (given->shape.size() != 2 || given->is_integer())
    return Problem{"the weights have shape " + to_string(given->shape) +
                       " or are integers; expected a matrix of real numbers",
                   kExportAgain};
  if (!(alpha > 0.0F))
    return Problem{"alpha " + std::to_string(alpha) + " is not positive",
                   "fold it into the weights"};
  Tensor weights = transposed ? *given : transpose(*given, {1, 0});
  if (alpha != 1.0F)
    for (float& v : weights.reals) v *= alpha;
  std::string name = layer_of(node, 2);
  if (name.empty()) name = layer_of(node, 1);
  if (name.empty()) name = readable_name(node);
  const int64_t outputs = weights.shape[0];
  std::vector<ValueId> inputs = {
      x, node.importer->constant(name + ".weight", weights.shape, std::move(weights.reals))};
  if (node.in(2).kind != Operand::Kind::kAbsent) {
    if (Outcome problem = expect_constant(node, 2)) return problem;
    const Tensor& bias = *node.in(2).tensor;
    if (bias.is_integer() || (bias.reals.size() != 1 && !is_per_column(bias, outputs)))
      return Problem{"the bias has shape " + to_string(bias.shape), kExportAgain};
    std::vector<float> data = bias.reals;
    if (data.size() == 1) data.assign(static_cast<size_t>(outputs), data[0]);
    for (float& v : data) v *= beta;
    inputs.push_back(node.importer->constant(name + ".bias", {outputs}, std::move(data)));
  }
  ValueId value = kNoValue;
  if (Outcome problem = add_node(node, name, Linear{}, std::move(inputs), &value)) return problem;
  if (weights.grid) {
    const Grid& grid = *weights.grid;
    if (grid.scale.size() > 1 && grid.axis != 0)
      return Problem{"the weight scales lie along axis " + std::to_string(grid.axis) +
                         ", not along the output channels",
                     "quantise weights per tensor or per output channel"};
    WeightQuant quant = weight_quant_of(grid);
    for (float& scale : quant.spec.scale) scale *= alpha;
    node.importer->graph().nodes.back().weight_quant = std::move(quant);
  }
  Layout result = layout;
  result.back() = columns(outputs);
  define_symbol(node, rows_symbol(value, std::move(result)));
  return {};
}

Outcome import_gemm(const NodeView& node) {
  if (node.integer("transA", 0) != 0)
    return Problem{"transA is set", "export the layer with untransposed activations"};
  return linear(node, node.integer("transB", 0) != 0, node.real("alpha", 1.0F),
                node.real("beta", 1.0F));
}

// ---- attention

// Operand i as rows times a number.
Outcome scaled_rows(const NodeView& node, size_t i, ValueId* value, double* factor) {
  const Symbol& symbol = *symbol_at(node, i);
  const std::optional<double> multiple =
      symbol.form == Form::kFunction ? slope(symbol.f) : std::nullopt;
  *factor = multiple.value_or(1.0);
  if (!multiple) return rows_of(node, node.in(i), value);
  *value = symbol.value;
  return {};
}

// Whether a layout is [..., heads, tokens, columns of a head]; with keys, the last two the other
// way.
struct HeadLayout {
  Dim heads, columns;
  bool fits = false;
};
HeadLayout heads_of(const Layout& layout, bool columns_last) {
  HeadLayout result;
  if (layout.size() < 2) return result;
  const Dim& tokens = layout[layout.size() - (columns_last ? 2 : 1)];
  result.columns = layout[layout.size() - (columns_last ? 1 : 2)];
  for (size_t d = 0; d + 2 < layout.size(); ++d)
    result.heads.insert(result.heads.end(), layout[d].begin(), layout[d].end());
  const auto is_columns = [](const Dim& dim) {
    return dim.empty() || (dim.size() == 1 && dim[0].axis == Axis::kChannel);
  };
  result.fits = tokens.size() == 1 && tokens[0].axis == Axis::kToken && is_columns(result.heads) &&
                is_columns(result.columns);
  return result;
}

Problem not_attention(const NodeView& node) {
  std::string shapes;
  for (size_t i = 0; i < std::min<size_t>(node.inputs(), 2); ++i)
    shapes += (i == 0 ? "" : " and ") + std::string(describe(*symbol_at(node, i))) + " of shape " +
              to_string(shape_of(symbol_at(node, i)->layout));
  return {"the product of " + shapes + " is no part of an attention",
          "only attention of several heads over all tokens is supported"};
}

int64_t extent_of(const Dim& dim) { return shape_of({dim})[0]; }

// Queries and keys -> scores.
Outcome score(const NodeView& node) {
  const Layout &a = symbol_at(node, 0)->layout, &b = symbol_at(node, 1)->layout;
  const HeadLayout q = heads_of(a, true), k = heads_of(b, false);
  if (!q.fits || !k.fits || q.heads != k.heads || q.columns != k.columns)
    return not_attention(node);
  double factors[2] = {};
  Symbol scores = rows_symbol(kNoValue, a);
  scores.form = Form::kScores;
  if (Outcome problem = scaled_rows(node, 0, &scores.value, &factors[0])) return problem;
  if (Outcome problem = scaled_rows(node, 1, &scores.key, &factors[1])) return problem;
  scores.heads = extent_of(q.heads);
  if (scores.heads * extent_of(q.columns) != width_of(node, scores.value))
    return not_attention(node);
  scores.factor = factors[0] * factors[1];
  scores.layout.back() = {{Axis::kKey, node.importer->sequences().length, 1}};
  define_symbol(node, std::move(scores));
  return {};
}

// A bias by place [.., heads, tokens, tokens] that depends on the distance alone -> [heads, 2 n -
// 1].
Outcome relative_bias(const NodeView& node, const Symbol& scores, ValueId* value) {
  const int64_t n = node.importer->sequences().length, heads = scores.heads;
  Tensor full;
  const Tensor zeros{.type = kFloat,
                     .shape = {heads, n, n},
                     .reals = std::vector<float>(static_cast<size_t>(heads * n * n))};
  Tensor given = *scores.bias;
  while (given.shape.size() > 3 && given.shape[0] == 1) given.shape.erase(given.shape.begin());
  if (Outcome problem = fold_binary(
          given, zeros, [](float a, float b) { return a + b; },
          [](int64_t a, int64_t) { return a; }, &full))
    return problem;
  std::vector<float> bias(static_cast<size_t>(heads * (2 * n - 1)));
  const auto at = [&](int64_t h, int64_t i, int64_t j) -> float {
    return full.reals[static_cast<size_t>((h * n + i) * n + j)];
  };
  const Problem wrong{"a bias of shape " + to_string(scores.bias->shape) +
                          " is added to attention scores that is not one of distances",
                      "only relative positions and masks of padding are supported"};
  if (full.shape != zeros.shape) return wrong;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        if (i > 0 && j > 0 && at(h, i, j) != at(h, i - 1, j - 1)) return wrong;
        bias[static_cast<size_t>(h * (2 * n - 1) + j - i + n - 1)] = at(h, i, j);
      }
  // One table for all layers that share it.
  Graph& graph = node.importer->graph();
  for (const Node& other : graph.nodes)
    if (std::holds_alternative<Attention>(other.op) && other.inputs.size() > 3 &&
        graph.values[other.inputs[3]].data == bias) {
      *value = other.inputs[3];
      return {};
    }
  *value = node.importer->constant("relative_attention_bias", {heads, 2 * n - 1}, std::move(bias));
  return {};
}

// "encoder.layer.0.attention" from the name of the layer that makes the queries.
std::string attention_name(const NodeView& node, ValueId query) {
  const Graph& graph = node.importer->graph();
  const int at = producer(graph, query);
  const std::string name = at < 0 ? "" : graph.nodes[static_cast<size_t>(at)].name;
  constexpr std::string_view kPart = ".attention.";
  const size_t part = name.find(kPart);
  return part == std::string::npos ? readable_name(node) : name.substr(0, part + kPart.size() - 1);
}

Outcome attend(const NodeView& node, const Symbol& scores, ValueId v, Layout layout) {
  const double width = static_cast<double>(width_of(node, scores.value) / scores.heads);
  const double factor = scores.factor * std::sqrt(width);
  constexpr double kTolerance = 1e-5;
  ValueId query = scores.value;
  if (std::abs(factor - 1.0) > kTolerance)
    if (Outcome problem = changed_linear(node, query, 0, width_of(node, query), factor, &query))
      return problem;
  std::vector<ValueId> inputs = {query, scores.key, v};
  if (scores.bias != nullptr) {
    inputs.push_back(kNoValue);
    if (Outcome problem = relative_bias(node, scores, &inputs[3])) return problem;
  }
  ValueId value = kNoValue;
  if (Outcome problem =
          add_node(node, attention_name(node, query),
                   Attention{static_cast<uint32_t>(scores.heads)}, std::move(inputs), &value))
    return problem;
  define_symbol(node, rows_symbol(value, std::move(layout)));
  return {};
}

// Probabilities and values -> what is attended to.
Outcome weigh(const NodeView& node) {
  const Symbol& p = *symbol_at(node, 0);
  const HeadLayout v = heads_of(symbol_at(node, 1)->layout, true);
  Dim heads;
  for (size_t d = 0; d + 2 < p.layout.size(); ++d)
    heads.insert(heads.end(), p.layout[d].begin(), p.layout[d].end());
  const bool in_place =
      p.layout.size() > 1 && p.layout.back().size() == 1 && p.layout.back()[0].axis == Axis::kKey;
  if (!in_place || !v.fits || v.heads != heads) return not_attention(node);
  ValueId value = kNoValue;
  if (Outcome problem = rows_of(node, node.in(1), &value)) return problem;
  Layout layout = p.layout;
  layout.back() = v.columns;
  return attend(node, p, value, std::move(layout));
}

Outcome import_matmul(const NodeView& node) {
  if (node.in(1).is_constant()) return linear(node, false, 1.0F, 1.0F);
  for (size_t i = 0; i < 2; ++i)
    if (symbol_at(node, i) == nullptr)
      return Problem{"a constant is multiplied from the left", kExportAgain};
  return symbol_at(node, 0)->form == Form::kProbabilities ? weigh(node) : score(node);
}

Outcome import_softmax(const NodeView& node) {
  if (symbol_at(node, 0) == nullptr) return Problem{"its input is constant", kExportAgain};
  const Symbol& symbol = *symbol_at(node, 0);
  const auto rank = static_cast<int64_t>(symbol.layout.size());
  const int64_t axis = node.integer("axis", node.opset < 13 ? 1 : -1);
  if (symbol.form == Form::kScores) {
    if ((axis != -1 && axis != rank - 1) || !has_axis(symbol.layout.back(), Axis::kKey))
      return Problem{"the softmax of scores is not over the keys", kExportAgain};
    Symbol probabilities = symbol;
    probabilities.form = Form::kProbabilities;
    define_symbol(node, std::move(probabilities));
    return {};
  }
  if (!node.importer->is_graph_output(node.proto->output(0)) ||
      node.importer->uses(node.proto->output(0)) != 1)
    return Problem{std::string("it reads ") + describe(symbol) +
                       ": a softmax is supported in attention, and as the last node, where it is "
                       "dropped",
                   kExportAgain};
  node.importer->note("node '" + node.name + "' (" + node.proto->op_type() +
                      "): dropped; the output is the logits");
  return alias_symbol(node, 0);
}

// ONNX's own Attention: queries, keys, values as [batch, heads, tokens, columns] or as rows with
// the number of heads beside them.
Outcome import_attention(const NodeView& node) {
  if (node.integer("is_causal", 0) != 0 || node.real("softcap", 0.0F) != 0.0F ||
      node.inputs() < 3 || node.in(4).kind != Operand::Kind::kAbsent ||
      node.in(5).kind != Operand::Kind::kAbsent)
    return Problem{"causal, capped or cached attention", "export an encoder without a cache"};
  Symbol scores = rows_symbol(kNoValue, {});
  scores.form = Form::kProbabilities;
  ValueId values[3] = {};
  HeadLayout layouts[3];
  for (size_t i = 0; i < 3; ++i) {
    const Symbol* const symbol = symbol_at(node, i);
    if (symbol == nullptr) return Problem{"an input is constant", kExportAgain};
    if (Outcome problem = rows_of(node, node.in(i), &values[i])) return problem;
    if (symbol->layout.size() == 4) {
      layouts[i] = heads_of(symbol->layout, true);
      continue;
    }
    const int64_t heads = node.integer(i == 0 ? "q_num_heads" : "kv_num_heads", 0);
    const int64_t width = width_of(node, values[i]);
    if (heads < 1 || width % heads != 0 || !is_rows(symbol->layout, width))
      return not_attention(node);
    Layout split = symbol->layout;
    split.back() = columns(width / heads);
    layouts[i] = heads_of(split, true);
    if (heads > 1) layouts[i].heads = {{Axis::kChannel, heads, width / heads}};
  }
  for (const HeadLayout& each : layouts)
    if (!each.fits || each.heads != layouts[0].heads || each.columns != layouts[0].columns)
      return not_attention(node);
  scores.value = values[0];
  scores.key = values[1];
  scores.heads = extent_of(layouts[0].heads);
  const double width = static_cast<double>(extent_of(layouts[0].columns));
  scores.factor =
      node.has_attribute("scale") ? double{node.real("scale", 0.0F)} : 1.0 / std::sqrt(width);
  if (node.in(3).kind != Operand::Kind::kAbsent) {
    if (Outcome problem = expect_constant(node, 3)) return problem;
    const TensorPtr& mask = node.in(3).tensor;
    const double nothing = mask->is_integer() ? 1.0 : 0.0;
    if (uniform(*mask) != nothing) {
      if (mask->is_integer() ||
          std::any_of(mask->reals.begin(), mask->reals.end(), [](float v) { return !(v > -1e4F); }))
        return Problem{"attention is masked otherwise than for padding",
                       "causal and windowed attention are not supported"};
      scores.bias = mask;
    }
  }
  return attend(node, scores, values[2], symbol_at(node, 0)->layout);
}

// ---- normalisation

Outcome import_layer_norm(const NodeView& node) {
  Symbol symbol = rows_symbol(kNoValue, {});
  if (symbol_at(node, 0) == nullptr) return Problem{"its input is constant", kExportAgain};
  symbol.layout = symbol_at(node, 0)->layout;
  const auto rank = static_cast<int64_t>(symbol.layout.size());
  if (Outcome problem = rows_of(node, node.in(0), &symbol.value)) return problem;
  const int64_t axis = node.integer("axis", -1), width = width_of(node, symbol.value);
  if ((axis != -1 && axis != rank - 1) || !is_rows(symbol.layout, width))
    return Problem{"it normalises something else than rows", kExportAgain};
  symbol.form = Form::kNormal;
  symbol.epsilon = node.real("epsilon", 1e-5F);
  for (size_t i = 1; i < 3; ++i) {
    if (node.in(i).kind == Operand::Kind::kAbsent) continue;
    if (Outcome problem = expect_constant(node, i)) return problem;
    if (!is_per_column(*node.in(i).tensor, width))
      return Problem{"its parameters do not fit its rows", kExportAgain};
    (i == 1 ? symbol.gamma : symbol.beta) = node.in(i).tensor;
    if (symbol.name.empty()) symbol.name = layer_of(node, i);
  }
  define_symbol(node, std::move(symbol));
  return {};
}

Outcome import_lp_normalization(const NodeView& node) {
  ValueId value = kNoValue;
  if (Outcome problem = rows_of(node, node.in(0), &value)) return problem;
  const Layout& layout = symbol_at(node, 0)->layout;
  const int64_t axis = node.integer("axis", -1);
  if (node.integer("p", 2) != 2 || (axis != -1 && axis != static_cast<int64_t>(layout.size()) - 1))
    return Problem{"only rows are normalised, to Euclidean length 1", kExportAgain};
  if (Outcome problem = normalise(node, value, &value)) return problem;
  define_symbol(node, rows_symbol(value, layout));
  return {};
}

// ---- quantisers

Outcome import_quantize(const NodeView& node) {
  if (symbol_at(node, 0) == nullptr) return Problem{"a scale is no constant", kExportAgain};
  if (Outcome problem = expect_constant(node, 1)) return problem;
  const Tensor& scale = *node.in(1).tensor;
  const Operand& zero = node.in(2);
  if (scale.is_integer() || scale.reals.size() != 1 || !(scale.reals[0] > 0.0F) ||
      (zero.is_constant() && zero.tensor->elements() != 1))
    return Problem{"an activation is quantised with several scales, or by one that is not positive",
                   "quantise activations per tensor"};
  const int32_t type = zero.is_constant()
                           ? zero.tensor->type
                           : static_cast<int32_t>(node.integer("output_dtype", kUint8));
  const ElementInfo* const info = element_info(type == 0 ? kUint8 : type);
  if (info == nullptr || !info->is_integer || info->bits > 8 || type == kBool)
    return Problem{"it quantises to element type " + std::to_string(type),
                   "quantise to 8, 4 or 2 bit integers"};
  Operand codes{.kind = Operand::Kind::kQuantised, .symbol = node.in(0).symbol};
  codes.codes = {.scale = scale.reals[0],
                 .zero_point = zero.is_constant() ? zero.tensor->integers[0] : 0,
                 .rounded = true,
                 .linear = true,
                 .type = info->type};
  node.importer->define(node, std::move(codes));
  return {};
}

// Rows that a quantiser can be put on, times a number; false for what is in the middle of a
// normalisation, an attention or a function, which the graph has no place for.
bool quantisable(const NodeView& node, ValueId* value, double* factor) {
  const Operand rows{.kind = Operand::Kind::kSymbol, .symbol = node.in(0).symbol};
  const Symbol& symbol = *rows.symbol;
  *factor = 1.0;
  if (symbol.form == Form::kFunction) {
    const std::optional<double> multiple = slope(symbol.f);
    const bool heads =
        !symbol.layout.empty() && !is_rows(symbol.layout, shape_of(symbol.layout).back());
    if (multiple && *multiple > 0.0 && heads) {
      *value = symbol.value;
      *factor = *multiple;
      return true;
    }
    if (multiple && !is_identity(symbol)) return false;
    return !rows_of(node, rows, value);
  }
  if (symbol.form != Form::kNormal || symbol.gamma == nullptr || symbol.beta == nullptr)
    return false;
  return !rows_of(node, rows, value);
}

Outcome import_dequantize(const NodeView& node) {
  const Operand& x = node.in(0);
  if (x.symbol == nullptr || x.kind != Operand::Kind::kQuantised || !node.in(1).is_constant())
    return Problem{"its input is not quantised", kExportAgain};
  const Tensor& scale = *node.in(1).tensor;
  const Operand& zero = node.in(2);
  const int64_t zero_point =
      zero.is_constant() && zero.tensor->integers.size() == 1 ? zero.tensor->integers[0] : 0;
  if (scale.is_integer() || scale.reals.size() != 1 || scale.reals[0] != x.codes.scale ||
      zero_point != x.codes.zero_point)
    return Problem{
        "DequantizeLinear and the QuantizeLinear before it have different scales or zero points",
        "use the same scale and zero point in both"};
  ValueId value = kNoValue;
  double factor = 1.0;
  if (!quantisable(node, &value, &factor)) {
    node.importer->note("node '" + node.name + "' (DequantizeLinear): " + describe(*x.symbol) +
                        " are left unquantised");
    define_symbol(node, *x.symbol);
    return {};
  }
  const ElementInfo& info = *element_info(x.codes.type);
  QuantSpec spec;
  if (Outcome problem = activation_spec(static_cast<float>(x.codes.scale / factor), zero_point,
                                        info.lowest(), info.highest(), &spec))
    return problem;
  Symbol rows = rows_symbol(node.importer->fake_quant(node, value, spec), x.symbol->layout);
  for (double& v : rows.f) v *= factor;
  define_symbol(node, std::move(rows));
  return {};
}

constexpr OpRow kRows[] = {
    {"QuantizeLinear", import_quantize},
    {"DequantizeLinear", import_dequantize},
    {"MatMul", import_matmul},
    {"Gemm", import_gemm},
    {"Softmax", import_softmax},
    {"LogSoftmax", import_softmax},
    {"Attention", import_attention},
    {"LayerNormalization", import_layer_norm},
    {"LpNormalization", import_lp_normalization},
};

}  // namespace

std::span<const OpRow> sequence_layer_ops() { return kRows; }

}  // namespace mpq::convert
