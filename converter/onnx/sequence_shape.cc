// Operators that move or select tokens and columns.

#include <algorithm>

#include "converter/onnx/operands.h"
#include "converter/onnx/sequence_operands.h"

namespace mpq::convert {
namespace {

// The symbol of operand 0 under another layout.
Outcome lay(const NodeView& node, Layout layout) {
  Symbol symbol = *symbol_at(node, 0);
  const ValueId emitted = symbol.emitted;
  symbol.layout = std::move(layout);
  if (symbol.form != Symbol::Form::kFunction && emitted != kNoValue)
    symbol = rows_symbol(emitted, std::move(symbol.layout));
  define_symbol(node, std::move(symbol));
  return {};
}

Outcome expect_symbol(const NodeView& node) {
  if (symbol_at(node, 0) != nullptr) return {};
  return Problem{"a constant is moved by what is computed from tokens", kExportAgain};
}

Outcome import_identity(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  return alias_symbol(node, 0);
}

Outcome import_cast(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  const Symbol::Form form = symbol_at(node, 0)->form;
  const bool indices = form == Symbol::Form::kIds || form == Symbol::Form::kTypes;
  const ElementInfo* const to = element_info(static_cast<int32_t>(node.integer("to", kFloat)));
  if (to == nullptr || to->is_integer != indices || to->bits < 16)
    return Problem{std::string(describe(*symbol_at(node, 0))) + " are cast to " +
                       (to == nullptr ? "an unknown type" : to->name),
                   kExportAgain};
  return alias_symbol(node, 0);
}

// CastLike: to the type of operand 1. Symbols are floating.
Outcome import_cast_like(const NodeView& node) {
  if (symbol_at(node, 0) != nullptr) return alias_symbol(node, 0);
  if (Outcome problem = expect_constant(node, 0)) return problem;
  if (symbol_at(node, 1) == nullptr) return expect_symbol(node);
  const Symbol::Form form = symbol_at(node, 1)->form;
  if (form == Symbol::Form::kIds || form == Symbol::Form::kTypes || node.in(0).tensor->is_integer())
    return Problem{"a constant becomes an integer", kExportAgain};
  return alias_symbol(node, 0);
}

Outcome import_shape(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  const Shape shape = shape_of(symbol_at(node, 0)->layout);
  const auto rank = static_cast<int64_t>(shape.size());
  const auto limit = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + rank : v, 0, rank); };
  const int64_t start = limit(node.integer("start", 0)),
                end = std::max(limit(node.integer("end", rank)), start);
  node.importer->define_constant(
      node, make_integers({end - start}, {shape.begin() + start, shape.begin() + end}));
  return {};
}

Outcome reshape_to(const NodeView& node, const Shape& to) {
  const Layout& from = symbol_at(node, 0)->layout;
  std::optional<Layout> layout = reshaped(from, to);
  if (!layout)
    return Problem{std::string(describe(*symbol_at(node, 0))) + " of shape " +
                       to_string(shape_of(from)) + " become " + to_string(to) +
                       ", which mixes tokens and columns",
                   "split and merge heads only"};
  return lay(node, *std::move(layout));
}

Outcome import_reshape(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  std::vector<int64_t> target = node.integers("shape");
  if (Outcome problem = constant_integers(node, 1, &target)) return problem;
  const Shape from = shape_of(symbol_at(node, 0)->layout);
  Shape to(target.begin(), target.end());
  int64_t known = 1;
  ptrdiff_t unknown = -1;
  const Problem wrong{"shape " + to_string(from) + " cannot become " + to_string(to), kExportAgain};
  for (size_t d = 0; d < to.size(); ++d) {
    if (to[d] == 0 && d < from.size()) to[d] = from[d];
    if (to[d] == -1 && unknown < 0) {
      unknown = static_cast<ptrdiff_t>(d);
      continue;
    }
    if (to[d] < 1 || to[d] > (1 << 30)) return wrong;
    known *= to[d];
    if (known > (int64_t{1} << 32)) return wrong;
  }
  const auto elements = static_cast<int64_t>(element_count(from));
  if (unknown >= 0) {
    if (elements % known != 0) return wrong;
    to[static_cast<size_t>(unknown)] = elements / known;
  }
  return reshape_to(node, to);
}

Outcome import_flatten(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  const Shape from = shape_of(symbol_at(node, 0)->layout);
  const auto rank = static_cast<int64_t>(from.size());
  int64_t axis = node.integer("axis", 1);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis > rank) return Problem{"axis is wrong", kExportAgain};
  const Shape head(from.begin(), from.begin() + axis), tail(from.begin() + axis, from.end());
  return reshape_to(
      node, {static_cast<int64_t>(element_count(head)), static_cast<int64_t>(element_count(tail))});
}

Outcome import_squeeze(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  const Layout& from = symbol_at(node, 0)->layout;
  std::vector<size_t> axes;
  if (Outcome problem = axes_of(node, 1, from.size(), &axes)) return problem;
  Layout to;
  for (size_t d = 0; d < from.size(); ++d) {
    const bool named = std::find(axes.begin(), axes.end(), d) != axes.end();
    if (named && !from[d].empty())
      return Problem{"an axis of extent " + std::to_string(shape_of(from)[d]) + " is squeezed",
                     kExportAgain};
    if (!named && !(axes.empty() && from[d].empty())) to.push_back(from[d]);
  }
  return lay(node, std::move(to));
}

Outcome import_unsqueeze(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  const Layout& from = symbol_at(node, 0)->layout;
  const size_t given =
      node.in(1).is_constant() ? node.in(1).tensor->elements() : node.integers("axes").size();
  constexpr size_t kMostDimensions = 8;
  if (from.size() + given > kMostDimensions) return Problem{"too many dimensions", kExportAgain};
  std::vector<size_t> axes;
  if (Outcome problem = axes_of(node, 1, from.size() + given, &axes)) return problem;
  Layout to;
  size_t next = 0;
  for (size_t d = 0; d < from.size() + given; ++d) {
    const bool added = std::find(axes.begin(), axes.end(), d) != axes.end();
    if (!added && next == from.size()) return Problem{"an axis is given twice", kExportAgain};
    to.push_back(added ? Dim{} : from[next++]);
  }
  return lay(node, std::move(to));
}

Outcome import_transpose(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  const Layout& from = symbol_at(node, 0)->layout;
  std::vector<int64_t> perm = node.integers("perm");
  if (!node.has_attribute("perm"))
    for (size_t d = from.size(); d-- > 0;) perm.push_back(static_cast<int64_t>(d));
  if (perm.size() != from.size()) return Problem{"perm has the wrong length", kExportAgain};
  std::vector<int64_t> sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  Layout to;
  for (size_t d = 0; d < perm.size(); ++d) {
    if (sorted[d] != static_cast<int64_t>(d))
      return Problem{"perm is no permutation", kExportAgain};
    to.push_back(from[static_cast<size_t>(perm[d])]);
  }
  return lay(node, std::move(to));
}

// Row statistics may be expanded to their rows; everything else keeps its shape.
Outcome import_expand(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  std::vector<int64_t> to;
  if (Outcome problem = constant_integers(node, 1, &to)) return problem;
  const Symbol& symbol = *symbol_at(node, 0);
  Shape from = shape_of(symbol.layout);
  const bool statistic = symbol.form == Symbol::Form::kLength ||
                         symbol.form == Symbol::Form::kMean ||
                         symbol.form == Symbol::Form::kDeviation;
  if (statistic) return alias_symbol(node, 0);
  while (to.size() < from.size()) to.insert(to.begin(), 1);
  while (from.size() < to.size()) from.insert(from.begin(), 1);
  for (size_t d = 0; d < to.size(); ++d)
    if (to[d] != from[d] && to[d] != 1)
      return Problem{
          std::string(describe(symbol)) + " of shape " + to_string(from) + " are repeated",
          kExportAgain};
  return alias_symbol(node, 0);
}

// Elements from..from + count of one dimension; the dimension goes when `drop` is set.
Outcome select(const NodeView& node, size_t axis, int64_t from, int64_t count, bool drop,
               int output = 0) {
  const Symbol& symbol = *symbol_at(node, 0);
  Layout layout = symbol.layout;
  const int64_t extent = shape_of(layout)[axis];
  const auto finish = [&](Symbol selected) {
    if (drop) selected.layout.erase(selected.layout.begin() + static_cast<ptrdiff_t>(axis));
    define_symbol(node, std::move(selected), output);
  };
  if (from == 0 && count == extent) {
    Symbol same = symbol;
    if (symbol.emitted != kNoValue && symbol.form != Symbol::Form::kFunction)
      same = rows_symbol(symbol.emitted, layout);
    finish(std::move(same));
    return {};
  }
  if (from < 0 || count < 1 || from + count > extent)
    return Problem{"it selects elements outside of the tensor", kExportAgain};
  ValueId value = kNoValue;
  if (Outcome problem = rows_of(node, node.in(0), &value)) return problem;
  const int64_t width = width_of(node, value);
  if (is_rows(layout, width) && has_axis(layout[axis], Axis::kToken)) {
    if (from != 0 || count != 1)
      return Problem{"it selects tokens other than the first", "use the first token, or a mean"};
    if (Outcome problem = pool(node, 0, false, &value)) return problem;
    layout[axis] = {};
    finish(rows_symbol(value, std::move(layout)));
    return {};
  }
  if (is_rows(layout, width) && axis + 1 == layout.size()) {
    Symbol part = rows_symbol(value, std::move(layout));
    part.form = Symbol::Form::kPart;
    part.first = from;
    part.count = count;
    part.layout[axis] = columns(count);
    finish(std::move(part));
    return {};
  }
  return Problem{"it selects from heads or other parts of a split tensor", kExportAgain};
}

Outcome import_gather(const NodeView& node) {
  if (const Symbol* const indices = symbol_at(node, 1)) {
    const bool ids = indices->form == Symbol::Form::kIds,
               types = indices->form == Symbol::Form::kTypes;
    if ((!ids && !types) || !node.in(0).is_constant() || node.integer("axis", 0) != 0 ||
        node.in(0).tensor->shape.size() != 2 || node.in(0).tensor->is_integer())
      return Problem{"it looks up something else than embeddings of words and types", kExportAgain};
    Symbol embedding = *indices;
    embedding.form = Symbol::Form::kEmbedding;
    embedding.layout.push_back(columns(node.in(0).tensor->shape[1]));
    (ids ? embedding.words : embedding.types) = node.in(0).tensor;
    embedding.key = types ? indices->value : kNoValue;
    define_symbol(node, std::move(embedding));
    return {};
  }
  if (Outcome problem = expect_symbol(node)) return problem;
  if (Outcome problem = expect_constant(node, 1)) return problem;
  const Tensor& indices = *node.in(1).tensor;
  size_t axis = 0;
  const Shape shape = shape_of(symbol_at(node, 0)->layout);
  if (!indices.is_integer() || indices.integers.size() != 1 || indices.shape.size() > 1 ||
      !normalise_axis(node.integer("axis", 0), shape.size(), &axis))
    return Problem{"it selects several elements", "use Slice or Split"};
  const int64_t at = indices.integers[0] + (indices.integers[0] < 0 ? shape[axis] : 0);
  return select(node, axis, at, 1, indices.shape.empty());
}

Outcome import_slice(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  std::vector<int64_t> starts = node.integers("starts"), ends = node.integers("ends"),
                       axes = node.integers("axes"), steps;
  std::vector<int64_t>* const lists[] = {&starts, &ends, &axes, &steps};
  for (size_t i = 0; i < 4; ++i)
    if (Outcome problem = constant_integers(node, i + 1, lists[i])) return problem;
  if (axes.empty())
    for (size_t i = 0; i < starts.size(); ++i) axes.push_back(static_cast<int64_t>(i));
  const Shape shape = shape_of(symbol_at(node, 0)->layout);
  if (ends.size() != starts.size() || axes.size() != starts.size() ||
      std::any_of(steps.begin(), steps.end(), [](int64_t step) { return step != 1; }))
    return Problem{"it skips elements, or its bounds are not equally many", kExportAgain};
  size_t cut = shape.size();
  int64_t from = 0, count = 0;
  for (size_t i = 0; i < starts.size(); ++i) {
    size_t axis = 0;
    if (!normalise_axis(axes[i], shape.size(), &axis))
      return Problem{"an axis is wrong", kExportAgain};
    const int64_t extent = shape[axis];
    const auto limit = [&](int64_t v) {
      return std::clamp<int64_t>(v < 0 ? v + extent : v, 0, extent);
    };
    const int64_t start = limit(starts[i]), end = limit(ends[i]);
    if (start == 0 && end == extent) continue;
    if (cut != shape.size()) return Problem{"it cuts several axes", kExportAgain};
    cut = axis;
    from = start;
    count = end - start;
  }
  if (cut == shape.size()) return alias_symbol(node, 0);
  return select(node, cut, from, count, false);
}

Outcome import_split(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  const Shape shape = shape_of(symbol_at(node, 0)->layout);
  size_t axis = 0;
  if (!normalise_axis(node.integer("axis", 0), shape.size(), &axis))
    return Problem{"axis is wrong", kExportAgain};
  std::vector<int64_t> parts = node.integers("split");
  if (Outcome problem = constant_integers(node, 1, &parts)) return problem;
  const auto outputs = static_cast<size_t>(node.proto->output_size());
  if (parts.empty())
    parts.assign(outputs,
                 (shape[axis] + static_cast<int64_t>(outputs) - 1) / static_cast<int64_t>(outputs));
  if (parts.size() != outputs) return Problem{"split has the wrong length", kExportAgain};
  int64_t from = 0;
  for (size_t i = 0; i < outputs; ++i) {
    if (parts[i] < 1 || parts[i] > shape[axis]) return Problem{"split is wrong", kExportAgain};
    if (Outcome problem = select(node, axis, from, parts[i], false, static_cast<int>(i)))
      return problem;
    from += parts[i];
  }
  return {};
}

// A choice that the (absent) padding has made.
Outcome import_where(const NodeView& node) {
  const std::optional<double> condition = uniform_at(node, 0);
  if (!condition)
    return Problem{"it chooses between tensors by what is computed from tokens",
                   "only masks of padding are supported"};
  const size_t chosen = *condition != 0.0 ? 1 : 2;
  if (!node.in(chosen).is_constant() && symbol_at(node, chosen) == nullptr)
    return Problem{"it has not three inputs", kExportAgain};
  return alias_symbol(node, chosen);
}

Outcome false_like(const NodeView& node, size_t i) {
  const Shape shape = shape_of(symbol_at(node, i)->layout);
  uint64_t elements = 0;
  if (!checked_elements(shape, &elements) || elements > (1U << 28))
    return Problem{"the mask is too large", kExportAgain};
  node.importer->define_constant(
      node, {.type = kBool, .shape = shape, .integers = std::vector<int64_t>(elements, 0)});
  return {};
}

// Probabilities are numbers.
Outcome import_is_nan(const NodeView& node) {
  if (Outcome problem = expect_symbol(node)) return problem;
  return false_like(node, 0);
}

// Comparing word indices with that of padding: no word of a sequence is padding.
Outcome import_equal(const NodeView& node) {
  const size_t at = symbol_at(node, 0) != nullptr ? 0 : 1;
  if (node.inputs() != 2 || symbol_at(node, at)->form != Symbol::Form::kIds ||
      !uniform_at(node, 1 - at) || !node.in(1 - at).tensor->is_integer())
    return Problem{"it compares what is computed from tokens",
                   "only word indices are compared, with that of padding"};
  node.importer->note("node '" + node.name + "' (Equal): no word is " +
                      std::to_string(node.in(1 - at).tensor->integers[0]) +
                      ", which is taken for padding");
  return false_like(node, at);
}

constexpr OpRow kRows[] = {
    {"Identity", import_identity},   {"Dropout", import_identity}, {"Cast", import_cast},
    {"CastLike", import_cast_like},  {"Shape", import_shape},      {"Reshape", import_reshape},
    {"Flatten", import_flatten},     {"Squeeze", import_squeeze},  {"Unsqueeze", import_unsqueeze},
    {"Transpose", import_transpose}, {"Expand", import_expand},    {"Gather", import_gather},
    {"Slice", import_slice},         {"Split", import_split},      {"Where", import_where},
    {"IsNaN", import_is_nan},        {"Equal", import_equal},
};

}  // namespace

std::span<const OpRow> sequence_shape_ops() { return kRows; }

}  // namespace mpq::convert
