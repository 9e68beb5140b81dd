// Element-wise arithmetic and reductions: the parts of layer normalisation, GELU, pooling, and what
// is done to attention scores.

#include <algorithm>
#include <cmath>

#include "converter/onnx/fold.h"
#include "converter/onnx/operands.h"
#include "converter/onnx/sequence_operands.h"

namespace mpq::convert {
namespace {

using Form = Symbol::Form;

bool has_form(const NodeView& node, size_t i, Form form) {
  return symbol_at(node, i) != nullptr && symbol_at(node, i)->form == form;
}

// Operand i with another form.
Outcome become(const NodeView& node, size_t i, Form form) {
  Symbol symbol = *symbol_at(node, i);
  symbol.form = form;
  define_symbol(node, std::move(symbol));
  return {};
}

template <typename Function>
Outcome apply(const NodeView& node, size_t i, Function function) {
  Symbol symbol;
  if (Outcome problem = function_at(node, i, &symbol)) return problem;
  for (double& v : symbol.f) v = function(v);
  define_symbol(node, std::move(symbol));
  return {};
}

// Two functions of the same rows, when at least one is more than the rows themselves, or
// `always`.
template <typename Function>
bool combine(const NodeView& node, bool always, Function function) {
  Symbol both[2];
  for (size_t i = 0; i < 2; ++i) {
    const Symbol& symbol = *symbol_at(node, i);
    const ValueId rows = known_rows(symbol);
    if (symbol.form == Form::kFunction)
      both[i] = symbol;
    else if (rows != kNoValue)
      both[i] = rows_symbol(rows, symbol.layout);
    else
      return false;
  }
  if (both[0].value != both[1].value || compact(both[0].layout) != compact(both[1].layout))
    return false;
  if (!always && is_identity(both[0]) && is_identity(both[1])) return false;
  for (size_t i = 0; i < kSamplePoints; ++i) both[0].f[i] = function(both[0].f[i], both[1].f[i]);
  define_symbol(node, std::move(both[0]));
  return true;
}

Outcome unsupported(const NodeView& node) {
  std::string what;
  for (size_t i = 0; i < node.inputs(); ++i)
    what += (i == 0 ? "" : " and ") +
            std::string(symbol_at(node, i) != nullptr
                            ? describe(*symbol_at(node, i))
                            : "a constant of shape " +
                                  to_string(node.in(i).is_constant() ? node.shape(i) : Shape{}));
  return Problem{"it combines " + what, "only BERT, MPNet and their kin are supported"};
}

Outcome expect_two(const NodeView& node) {
  if (node.inputs() != 2) return Problem{"it has not two inputs", kExportAgain};
  for (size_t i = 0; i < 2; ++i)
    if (!node.in(i).is_constant() && symbol_at(node, i) == nullptr)
      return Problem{"it has not two inputs", kExportAgain};
  return {};
}

// ---- Add

Outcome sum_of(const TensorPtr& a, const TensorPtr& b, TensorPtr* sum) {
  if (a == nullptr || b == nullptr) {
    *sum = a == nullptr ? b : a;
    return {};
  }
  Tensor result;
  if (Outcome problem = fold_binary(
          *a, *b, [](float x, float y) { return x + y; }, [](int64_t x, int64_t) { return x; },
          &result))
    return problem;
  *sum = std::make_shared<const Tensor>(std::move(result));
  return {};
}

Outcome add_embeddings(const NodeView& node) {
  const size_t first = has_form(node, 0, Form::kEmbedding) ? 0 : 1;
  Symbol sum = *symbol_at(node, first);
  if (node.in(1 - first).is_constant()) {
    if (node.in(1 - first).tensor->is_integer()) return unsupported(node);
    if (Outcome problem = sum_of(sum.positions, node.in(1 - first).tensor, &sum.positions))
      return problem;
  } else {
    const Symbol& other = *symbol_at(node, 1 - first);
    if ((sum.words != nullptr && other.words != nullptr) ||
        (sum.types != nullptr && other.types != nullptr) || sum.layout != other.layout)
      return unsupported(node);
    if (Outcome problem = sum_of(sum.positions, other.positions, &sum.positions)) return problem;
    if (other.words != nullptr) {
      sum.words = other.words;
      sum.value = other.value;
    }
    if (other.types != nullptr) {
      sum.types = other.types;
      sum.key = other.key;
    }
  }
  define_symbol(node, std::move(sum));
  return {};
}

// Masks add nothing, as no token is padding; other constants are a bias by place.
Outcome add_to_scores(const NodeView& node, size_t at) {
  const Tensor& constant = *node.in(1 - at).tensor;
  if (uniform(constant) == 0.0) return alias_symbol(node, at);
  constexpr float kMasked = -1e4F;
  if (constant.is_integer() || std::any_of(constant.reals.begin(), constant.reals.end(),
                                           [](float v) { return !(v > kMasked); }))
    return Problem{"attention is masked otherwise than for padding",
                   "causal and windowed attention are not supported"};
  Symbol scores = *symbol_at(node, at);
  if (Outcome problem = sum_of(scores.bias, node.in(1 - at).tensor, &scores.bias)) return problem;
  define_symbol(node, std::move(scores));
  return {};
}

// A quantiser between a product and its bias is left out.
bool bias_behind_quantiser(const NodeView& node, ValueId value, const Tensor& bias,
                           const std::string& name, ValueId* output) {
  const Graph& graph = node.importer->graph();
  const int at = producer(graph, value);
  if (at < 0 || !std::holds_alternative<FakeQuant>(graph.nodes[static_cast<size_t>(at)].op))
    return false;
  if (!with_bias(node, graph.nodes[static_cast<size_t>(at)].inputs[0], bias, name, output))
    return false;
  node.importer->note("node '" + node.name + "' (Add): the quantiser before this bias is left out");
  return true;
}

Outcome add_constant(const NodeView& node, size_t at) {
  const Symbol& symbol = *symbol_at(node, at);
  const Tensor& constant = *node.in(1 - at).tensor;
  const std::optional<double> number = uniform(constant);
  if (symbol.form == Form::kScores) return add_to_scores(node, at);
  if (symbol.form == Form::kVariance || symbol.form == Form::kLength) {
    if (!number || !(*number >= 0.0)) return unsupported(node);
    Symbol more = symbol;
    more.epsilon += static_cast<float>(*number);
    define_symbol(node, std::move(more));
    return {};
  }
  const int64_t width = symbol.layout.empty() ? 0 : shape_of(symbol.layout).back();
  if (symbol.form == Form::kNormal && symbol.beta == nullptr && is_per_column(constant, width)) {
    Symbol shifted = symbol;
    shifted.beta = node.in(1 - at).tensor;
    if (shifted.name.empty()) shifted.name = layer_of(node, 1 - at);
    define_symbol(node, std::move(shifted));
    return {};
  }
  ValueId value = kNoValue;
  if (is_identity(symbol) && is_per_column(constant, width) && is_rows(symbol.layout, width) &&
      bias_behind_quantiser(node, symbol.value, constant, layer_of(node, 1 - at), &value)) {
    define_symbol(node, rows_symbol(value, symbol.layout));
    return {};
  }
  if (is_identity(symbol) && is_per_column(constant, width) && is_rows(symbol.layout, width) &&
      with_bias(node, symbol.value, constant, layer_of(node, 1 - at), &value)) {
    define_symbol(node, rows_symbol(value, symbol.layout));
    return {};
  }
  if (number) return apply(node, at, [&](double v) { return v + *number; });
  return unsupported(node);
}

Outcome import_add(const NodeView& node) {
  if (Outcome problem = expect_two(node)) return problem;
  for (size_t i = 0; i < 2; ++i)
    if (has_form(node, i, Form::kEmbedding) && symbol_at(node, i)->emitted == kNoValue &&
        (node.in(1 - i).is_constant() || has_form(node, 1 - i, Form::kEmbedding)))
      return add_embeddings(node);
  for (size_t i = 0; i < 2; ++i)
    if (node.in(1 - i).is_constant()) return add_constant(node, i);
  if (combine(node, false, [](double a, double b) { return a + b; })) return {};
  ValueId rows[2] = {};
  for (size_t i = 0; i < 2; ++i)
    if (Outcome problem = rows_of(node, node.in(i), &rows[i])) return problem;
  const Layout &a = symbol_at(node, 0)->layout, &b = symbol_at(node, 1)->layout;
  if (compact(a) != compact(b)) return unsupported(node);
  const Graph& graph = node.importer->graph();
  const int first = producer(graph, rows[0]);
  const bool is_linear =
      first >= 0 && std::holds_alternative<Linear>(graph.nodes[static_cast<size_t>(first)].op);
  ValueId value = kNoValue;
  if (Outcome problem = add_node(node, name_beside(node, rows[is_linear ? 0 : 1], "add"), Add{},
                                 {rows[0], rows[1]}, &value))
    return problem;
  define_symbol(node, rows_symbol(value, a.size() >= b.size() ? a : b));
  return {};
}

Outcome import_sub(const NodeView& node) {
  if (Outcome problem = expect_two(node)) return problem;
  if (const auto number = uniform_at(node, 1))
    return apply(node, 0, [&](double v) { return v - *number; });
  if (const auto number = uniform_at(node, 0))
    return apply(node, 1, [&](double v) { return *number - v; });
  if (has_form(node, 1, Form::kMean) && symbol_at(node, 0) != nullptr &&
      known_rows(*symbol_at(node, 0)) == symbol_at(node, 1)->value) {
    Symbol centred = rows_symbol(symbol_at(node, 1)->value, symbol_at(node, 0)->layout);
    centred.form = Form::kCentred;
    define_symbol(node, std::move(centred));
    return {};
  }
  return unsupported(node);
}

// ---- Mul, Div

Outcome pooled_mean(const NodeView& node, const Symbol& sum) {
  ValueId value = kNoValue;
  if (Outcome problem = add_node(node, "pooling", SequencePool{true, false}, {sum.value}, &value))
    return problem;
  define_symbol(node, rows_symbol(value, sum.layout));
  return {};
}

// Operand i times a number.
Outcome scale(const NodeView& node, size_t i, double number) {
  const Symbol& symbol = *symbol_at(node, i);
  constexpr double kTolerance = 1e-5;
  const auto length = static_cast<double>(node.importer->sequences().length);
  if (symbol.form == Form::kTokenSum && std::abs(number * length - 1.0) < kTolerance)
    return pooled_mean(node, symbol);
  if (number == 1.0) return alias_symbol(node, i);
  if (symbol.form == Form::kScores && symbol.bias == nullptr) {
    Symbol scores = symbol;
    scores.factor *= number;
    define_symbol(node, std::move(scores));
    return {};
  }
  return apply(node, i, [&](double v) { return v * number; });
}

Outcome normal(const NodeView& node, size_t centred, size_t deviation) {
  const Symbol &x = *symbol_at(node, centred), &d = *symbol_at(node, deviation);
  if (x.value != d.value) return unsupported(node);
  Symbol symbol = rows_symbol(x.value, x.layout);
  symbol.form = Form::kNormal;
  symbol.epsilon = d.epsilon;
  define_symbol(node, std::move(symbol));
  return {};
}

Outcome multiply_by_constant(const NodeView& node, size_t at) {
  const Symbol& symbol = *symbol_at(node, at);
  const Tensor& constant = *node.in(1 - at).tensor;
  const int64_t width = symbol.layout.empty() ? 0 : shape_of(symbol.layout).back();
  if (symbol.form == Form::kNormal && symbol.gamma == nullptr && symbol.beta == nullptr &&
      is_per_column(constant, width)) {
    Symbol scaled = symbol;
    scaled.gamma = node.in(1 - at).tensor;
    scaled.name = layer_of(node, 1 - at);
    define_symbol(node, std::move(scaled));
    return {};
  }
  if (const auto number = uniform(constant)) return scale(node, at, *number);
  return unsupported(node);
}

Outcome import_mul(const NodeView& node) {
  if (Outcome problem = expect_two(node)) return problem;
  for (size_t i = 0; i < 2; ++i)
    if (node.in(1 - i).is_constant()) return multiply_by_constant(node, i);
  for (size_t i = 0; i < 2; ++i)
    if (has_form(node, i, Form::kCentred) && has_form(node, 1 - i, Form::kInverse))
      return normal(node, i, 1 - i);
  if (has_form(node, 0, Form::kCentred) && has_form(node, 1, Form::kCentred) &&
      symbol_at(node, 0)->value == symbol_at(node, 1)->value)
    return become(node, 0, Form::kCentredSquare);
  if (combine(node, true, [](double a, double b) { return a * b; })) return {};
  return unsupported(node);
}

Outcome import_div(const NodeView& node) {
  if (Outcome problem = expect_two(node)) return problem;
  if (const auto number = uniform_at(node, 1)) {
    if (*number == 0.0) return Problem{"it divides by 0", kExportAgain};
    return scale(node, 0, 1.0 / *number);
  }
  if (uniform_at(node, 0) == 1.0 && has_form(node, 1, Form::kDeviation))
    return become(node, 1, Form::kInverse);
  if (has_form(node, 0, Form::kCentred) && has_form(node, 1, Form::kDeviation))
    return normal(node, 0, 1);
  if (symbol_at(node, 0) != nullptr && has_form(node, 1, Form::kLength) &&
      known_rows(*symbol_at(node, 0)) == symbol_at(node, 1)->value) {
    ValueId value = kNoValue;
    if (Outcome problem = normalise(node, symbol_at(node, 1)->value, &value)) return problem;
    define_symbol(node, rows_symbol(value, symbol_at(node, 0)->layout));
    return {};
  }
  return unsupported(node);
}

// ---- functions of one operand

Outcome import_pow(const NodeView& node) {
  const std::optional<double> exponent = uniform_at(node, 1);
  if (!exponent || symbol_at(node, 0) == nullptr) return unsupported(node);
  if (has_form(node, 0, Form::kCentred) && *exponent == 2.0)
    return become(node, 0, Form::kCentredSquare);
  if (has_form(node, 0, Form::kVariance) && *exponent == 0.5)
    return become(node, 0, Form::kDeviation);
  if (has_form(node, 0, Form::kVariance) && *exponent == -0.5)
    return become(node, 0, Form::kInverse);
  return apply(node, 0, [&](double v) { return std::pow(v, *exponent); });
}

Outcome import_sqrt(const NodeView& node) {
  if (has_form(node, 0, Form::kVariance)) return become(node, 0, Form::kDeviation);
  if (has_form(node, 0, Form::kSquareSum)) return become(node, 0, Form::kLength);
  return apply(node, 0, [](double v) { return std::sqrt(v); });
}

Outcome import_reciprocal(const NodeView& node) {
  if (has_form(node, 0, Form::kDeviation)) return become(node, 0, Form::kInverse);
  return apply(node, 0, [](double v) { return 1.0 / v; });
}

Outcome import_erf(const NodeView& node) {
  return apply(node, 0, [](double v) { return std::erf(v); });
}
Outcome import_tanh(const NodeView& node) {
  return apply(node, 0, [](double v) { return std::tanh(v); });
}
Outcome import_sigmoid(const NodeView& node) {
  return apply(node, 0, [](double v) { return 1.0 / (1.0 + std::exp(-v)); });
}
Outcome import_exp(const NodeView& node) {
  return apply(node, 0, [](double v) { return std::exp(v); });
}
Outcome import_neg(const NodeView& node) {
  return apply(node, 0, [](double v) { return -v; });
}
Outcome import_relu(const NodeView& node) {
  return apply(node, 0, [](double v) { return std::max(v, 0.0); });
}

Outcome import_gelu(const NodeView& node) {
  Symbol symbol;
  if (Outcome problem = function_at(node, 0, &symbol)) return problem;
  if (!is_identity(symbol)) return unsupported(node);
  ValueId value = kNoValue;
  if (Outcome problem =
          add_node(node, name_beside(node, symbol.value, "gelu"),
                   Gelu{node.text("approximate", "none") == "tanh"}, {symbol.value}, &value))
    return problem;
  define_symbol(node, rows_symbol(value, symbol.layout));
  return {};
}

// Clip, Max and Min: of a length only so that nothing is divided by 0.
Outcome clamp(const NodeView& node, size_t at, std::optional<double> lo, std::optional<double> hi) {
  constexpr double kSmall = 1e-6;
  const double infinity = std::numeric_limits<double>::infinity();
  const double from = lo.value_or(-infinity), to = hi.value_or(infinity);
  if (has_form(node, at, Form::kLength) && from <= kSmall &&
      to >= double{std::numeric_limits<float>::max()})
    return alias_symbol(node, at);
  if (!(from <= to)) return unsupported(node);
  return apply(node, at, [&](double v) { return std::clamp(v, from, to); });
}

Outcome import_clip(const NodeView& node) {
  if (symbol_at(node, 0) == nullptr) return unsupported(node);
  std::optional<double> lo = uniform_at(node, 1), hi = uniform_at(node, 2);
  if (node.has_attribute("min")) lo = node.real("min", 0.0F);
  if (node.has_attribute("max")) hi = node.real("max", 0.0F);
  return clamp(node, 0, lo, hi);
}
Outcome import_max(const NodeView& node) {
  const size_t at = symbol_at(node, 0) != nullptr ? 0 : 1;
  const std::optional<double> bound = uniform_at(node, 1 - at);
  if (node.inputs() != 2 || !bound) return unsupported(node);
  return clamp(node, at, bound, {});
}

// ---- reductions

// A reduction along one axis of operand 0.
struct Reduction {
  size_t axis = 0;
  Layout layout;  // behind it
  bool of_tokens = false;
};

Outcome read_reduction(const NodeView& node, Reduction* reduction) {
  const Symbol* const symbol = symbol_at(node, 0);
  if (symbol == nullptr) return unsupported(node);
  const size_t rank = symbol->layout.size();
  std::vector<size_t> axes;
  if (Outcome problem = axes_of(node, 1, rank, &axes)) return problem;
  if (axes.size() != 1) return Problem{"it reduces several axes", kExportAgain};
  reduction->axis = axes[0];
  reduction->layout = symbol->layout;
  const int64_t width = shape_of(symbol->layout).back();
  reduction->of_tokens = has_axis(symbol->layout[axes[0]], Axis::kToken);
  if (!is_rows(symbol->layout, width) || (!reduction->of_tokens && axes[0] + 1 != rank))
    return Problem{"it reduces neither rows nor tokens", kExportAgain};
  reduction->layout[axes[0]] = {};
  if (node.integer("keepdims", 1) == 0)
    reduction->layout.erase(reduction->layout.begin() + static_cast<ptrdiff_t>(axes[0]));
  return {};
}

// The rows of operand 0 as a form of them.
Outcome reduce_rows(const NodeView& node, const Reduction& reduction, Form form) {
  ValueId value = kNoValue;
  if (Outcome problem = rows_of(node, node.in(0), &value)) return problem;
  Symbol symbol = rows_symbol(value, reduction.layout);
  symbol.form = form;
  define_symbol(node, std::move(symbol));
  return {};
}

Outcome import_reduce_mean(const NodeView& node) {
  Reduction reduction;
  if (Outcome problem = read_reduction(node, &reduction)) return problem;
  if (reduction.of_tokens) {
    ValueId value = kNoValue;
    if (Outcome problem = pool(node, 0, true, &value)) return problem;
    define_symbol(node, rows_symbol(value, std::move(reduction.layout)));
    return {};
  }
  if (!has_form(node, 0, Form::kCentredSquare)) return reduce_rows(node, reduction, Form::kMean);
  Symbol variance = *symbol_at(node, 0);
  variance.form = Form::kVariance;
  variance.layout = std::move(reduction.layout);
  define_symbol(node, std::move(variance));
  return {};
}

bool is_square(const Samples& f) {
  constexpr double kTolerance = 1e-9;
  for (size_t i = 0; i < f.size(); ++i)
    if (!(std::abs(f[i] - sample_place(i) * sample_place(i)) < kTolerance)) return false;
  return true;
}

Outcome import_reduce_sum(const NodeView& node) {
  Reduction reduction;
  if (Outcome problem = read_reduction(node, &reduction)) return problem;
  if (reduction.of_tokens) return reduce_rows(node, reduction, Form::kTokenSum);
  const Symbol& symbol = *symbol_at(node, 0);
  if (symbol.form != Form::kFunction || !is_square(symbol.f)) return unsupported(node);
  Symbol sum = rows_symbol(symbol.value, std::move(reduction.layout));
  sum.form = Form::kSquareSum;
  define_symbol(node, std::move(sum));
  return {};
}

Outcome import_reduce_l2(const NodeView& node) {
  Reduction reduction;
  if (Outcome problem = read_reduction(node, &reduction)) return problem;
  if (reduction.of_tokens) return unsupported(node);
  return reduce_rows(node, reduction, Form::kLength);
}

constexpr OpRow kRows[] = {
    {"Add", import_add},
    {"Sum", import_add},
    {"Sub", import_sub},
    {"Mul", import_mul},
    {"Div", import_div},
    {"Pow", import_pow},
    {"Sqrt", import_sqrt},
    {"Reciprocal", import_reciprocal},
    {"Erf", import_erf},
    {"Tanh", import_tanh},
    {"Sigmoid", import_sigmoid},
    {"Exp", import_exp},
    {"Neg", import_neg},
    {"Relu", import_relu},
    {"Gelu", import_gelu},
    {"Clip", import_clip},
    {"Max", import_max},
    {"ReduceMean", import_reduce_mean},
    {"ReduceSum", import_reduce_sum},
    {"ReduceL2", import_reduce_l2},
};

}  // namespace

std::span<const OpRow> sequence_arithmetic_ops() { return kRows; }

}  // namespace mpq::convert
