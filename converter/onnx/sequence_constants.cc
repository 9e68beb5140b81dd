// Arithmetic on constants that only exporters of sequence networks leave in the graph: masks,
// positions and distances of tokens.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "converter/onnx/fold.h"
#include "converter/onnx/operands.h"
#include "converter/onnx/sequence_operands.h"

namespace mpq::convert {
namespace {

constexpr const char* kAgain = "export the model again";

Outcome all_constant(const NodeView& node) {
  for (size_t i = 0; i < node.inputs(); ++i)
    if (node.in(i).kind != Operand::Kind::kAbsent)
      if (Outcome problem = expect_constant(node, i)) return problem;
  return {};
}

// Broadcasting to a size that fits in memory several times.
bool fit(const Shape& a, const Shape& b, Shape* result) {
  constexpr size_t kMostElements = size_t{1} << 26;
  return broadcast(a, b, result) && element_count(*result) <= kMostElements;
}

int64_t wrapping_sum(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

// Strides of a tensor of shape `from` seen as the broadcast shape `to`.
std::vector<size_t> broadcast_strides(const Shape& from, const Shape& to) {
  std::vector<size_t> strides(to.size(), 0);
  size_t stride = 1;
  for (size_t d = from.size(); d-- > 0;) {
    if (from[d] != 1) strides[d + to.size() - from.size()] = stride;
    stride *= static_cast<size_t>(from[d]);
  }
  return strides;
}

// For each element of `shape` in order, the offset under `strides`.
std::vector<size_t> offsets(const Shape& shape, const std::vector<size_t>& strides) {
  std::vector<size_t> result(element_count(shape));
  std::vector<int64_t> at(shape.size(), 0);
  size_t position = 0;
  for (size_t& entry : result) {
    entry = position;
    for (size_t d = shape.size(); d-- > 0;) {
      position += strides[d];
      if (++at[d] < shape[d]) break;
      position -= strides[d] * static_cast<size_t>(shape[d]);
      at[d] = 0;
    }
  }
  return result;
}

// A comparison or a logical operation: element-wise to bool.
template <typename Relation>
Outcome compare(const NodeView& node, Relation relation) {
  if (Outcome problem = all_constant(node)) return problem;
  if (node.inputs() != 2) return Problem{"it has not two inputs", kAgain};
  const Tensor &a = *node.in(0).tensor, &b = *node.in(1).tensor;
  Tensor result{.type = kBool};
  if (!fit(a.shape, b.shape, &result.shape))
    return Problem{"shapes " + to_string(a.shape) + " and " + to_string(b.shape) + " do not fit",
                   kAgain};
  const auto ia = offsets(result.shape, broadcast_strides(a.shape, result.shape)),
             ib = offsets(result.shape, broadcast_strides(b.shape, result.shape));
  for (size_t i = 0; i < ia.size(); ++i)
    result.integers.push_back(relation(a.at(ia[i]), b.at(ib[i])) ? 1 : 0);
  node.importer->define_constant(node, std::move(result));
  return {};
}
Outcome import_equal(const NodeView& node) {
  return compare(node, [](double a, double b) { return a == b; });
}
Outcome import_less(const NodeView& node) {
  return compare(node, [](double a, double b) { return a < b; });
}
Outcome import_less_equal(const NodeView& node) {
  return compare(node, [](double a, double b) { return a <= b; });
}
Outcome import_greater(const NodeView& node) {
  return compare(node, [](double a, double b) { return a > b; });
}
Outcome import_greater_equal(const NodeView& node) {
  return compare(node, [](double a, double b) { return a >= b; });
}
Outcome import_and(const NodeView& node) {
  return compare(node, [](double a, double b) { return a != 0.0 && b != 0.0; });
}
Outcome import_or(const NodeView& node) {
  return compare(node, [](double a, double b) { return a != 0.0 || b != 0.0; });
}

template <typename Real>
Outcome map_reals(const NodeView& node, Real real) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  Tensor result = *node.in(0).tensor;
  if (result.is_integer()) return Problem{"its input is integer", kAgain};
  result.grid = nullptr;
  result.lsq = nullptr;
  for (float& v : result.reals) v = real(v);
  node.importer->define_constant(node, std::move(result));
  return {};
}
Outcome import_log(const NodeView& node) {
  return map_reals(node, [](float v) { return std::log(v); });
}
Outcome import_exp(const NodeView& node) {
  return map_reals(node, [](float v) { return std::exp(v); });
}
Outcome import_reciprocal(const NodeView& node) {
  return map_reals(node, [](float v) { return 1.0F / v; });
}

Outcome import_neg(const NodeView& node) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  Tensor result = *node.in(0).tensor;
  result.grid = nullptr;
  result.lsq = nullptr;
  result.positions.clear();
  for (float& v : result.reals) v = -v;
  for (int64_t& v : result.integers) v = static_cast<int64_t>(-static_cast<uint64_t>(v));
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome import_not(const NodeView& node) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  Tensor result{.type = kBool, .shape = node.in(0).tensor->shape};
  for (size_t i = 0; i < node.in(0).tensor->elements(); ++i)
    result.integers.push_back(node.in(0).tensor->at(i) == 0.0 ? 1 : 0);
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome import_is_nan(const NodeView& node) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  Tensor result{.type = kBool, .shape = node.in(0).tensor->shape};
  for (size_t i = 0; i < node.in(0).tensor->elements(); ++i)
    result.integers.push_back(std::isnan(node.in(0).tensor->at(i)) ? 1 : 0);
  node.importer->define_constant(node, std::move(result));
  return {};
}

// Element-wise on two or more constants.
Outcome fold_all(const NodeView& node, BinaryReal real, BinaryInteger integer) {
  if (Outcome problem = all_constant(node)) return problem;
  Tensor result = *node.in(0).tensor;
  for (size_t i = 1; i < node.inputs(); ++i) {
    Tensor next;
    if (Outcome problem = fold_binary(result, *node.in(i).tensor, real, integer, &next))
      return problem;
    result = std::move(next);
  }
  node.importer->define_constant(node, std::move(result));
  return {};
}
Outcome import_max(const NodeView& node) {
  return fold_all(
      node, [](float a, float b) { return std::max(a, b); },
      [](int64_t a, int64_t b) { return std::max(a, b); });
}
Outcome import_min(const NodeView& node) {
  return fold_all(
      node, [](float a, float b) { return std::min(a, b); },
      [](int64_t a, int64_t b) { return std::min(a, b); });
}

Outcome import_pow(const NodeView& node) {
  if (Outcome problem = all_constant(node)) return problem;
  if (node.inputs() != 2 || node.in(1).tensor->elements() != 1)
    return Problem{"the exponent is no scalar", kAgain};
  const double exponent = node.in(1).tensor->at(0);
  return map_reals(node, [&](float v) { return static_cast<float>(std::pow(v, exponent)); });
}

Outcome broadcast_to(const NodeView& node, const Tensor& source, const Shape& shape) {
  Tensor result;
  if (Outcome problem = fold_select(
          source, shape, offsets(shape, broadcast_strides(source.shape, shape)), &result))
    return problem;
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome import_expand(const NodeView& node) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  std::vector<int64_t> wanted;
  if (Outcome problem = constant_integers(node, 1, &wanted)) return problem;
  Shape shape;
  if (!std::all_of(wanted.begin(), wanted.end(), [](int64_t d) { return d > 0; }) ||
      !fit(node.shape(0), wanted, &shape))
    return Problem{
        "shape " + to_string(node.shape(0)) + " cannot become " + to_string(Shape(wanted)), kAgain};
  return broadcast_to(node, *node.in(0).tensor, shape);
}

Outcome import_where(const NodeView& node) {
  if (Outcome problem = all_constant(node)) return problem;
  if (node.inputs() != 3) return Problem{"it has not three inputs", kAgain};
  const Tensor &condition = *node.in(0).tensor, &a = *node.in(1).tensor, &b = *node.in(2).tensor;
  Shape both;
  Tensor result{.type = a.type};
  if (a.is_integer() != b.is_integer() || !fit(a.shape, b.shape, &both) ||
      !fit(both, condition.shape, &result.shape))
    return Problem{"its inputs do not fit each other", kAgain};
  const auto ic = offsets(result.shape, broadcast_strides(condition.shape, result.shape)),
             ia = offsets(result.shape, broadcast_strides(a.shape, result.shape)),
             ib = offsets(result.shape, broadcast_strides(b.shape, result.shape));
  for (size_t i = 0; i < ic.size(); ++i) {
    const bool first = condition.at(ic[i]) != 0.0;
    if (a.is_integer())
      result.integers.push_back(first ? a.integers[ia[i]] : b.integers[ib[i]]);
    else
      result.reals.push_back(first ? a.reals[ia[i]] : b.reals[ib[i]]);
  }
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome import_range(const NodeView& node) {
  if (Outcome problem = all_constant(node)) return problem;
  if (node.inputs() != 3) return Problem{"it has not three inputs", kAgain};
  for (size_t i = 0; i < 3; ++i)
    if (node.in(i).tensor->elements() != 1) return Problem{"a bound is no scalar", kAgain};
  const double start = node.in(0).tensor->at(0), limit = node.in(1).tensor->at(0),
               delta = node.in(2).tensor->at(0);
  const double count = std::ceil((limit - start) / delta);
  constexpr double kMost = 1 << 24;
  constexpr double kExact = 9007199254740992.0;  // integers that a double holds
  if (!(count <= kMost) || !(std::abs(start) <= kExact) || !(std::abs(limit) <= kExact))
    return Problem{"it gives too many numbers", kAgain};
  Tensor result{.type = node.in(0).tensor->type};
  for (double i = 0.0; i < count; ++i) {
    const double v = start + i * delta;
    if (result.is_integer())
      result.integers.push_back(static_cast<int64_t>(v));
    else
      result.reals.push_back(static_cast<float>(v));
  }
  result.shape = {static_cast<int64_t>(result.elements())};
  node.importer->define_constant(node, std::move(result));
  return {};
}

// Elements before, of and behind an axis.
struct Extents {
  size_t outer = 1, axis = 1, inner = 1;
};
Extents around(const Shape& shape, size_t axis) {
  Extents e;
  for (size_t d = 0; d < shape.size(); ++d)
    (d < axis ? e.outer : d == axis ? e.axis : e.inner) *= static_cast<size_t>(shape[d]);
  return e;
}

Outcome import_cum_sum(const NodeView& node) {
  std::vector<int64_t> axes;
  if (Outcome problem = expect_constant(node, 0)) return problem;
  if (Outcome problem = constant_integers(node, 1, &axes)) return problem;
  size_t axis = 0;
  if (axes.size() != 1 || !normalise_axis(axes[0], node.shape(0).size(), &axis) ||
      node.integer("exclusive", 0) != 0 || node.integer("reverse", 0) != 0)
    return Problem{"only plain sums along one axis are computed", kAgain};
  Tensor result = *node.in(0).tensor;
  result.positions.clear();
  const Extents e = around(result.shape, axis);
  for (size_t o = 0; o < e.outer; ++o)
    for (size_t k = 1; k < e.axis; ++k)
      for (size_t i = 0; i < e.inner; ++i) {
        const size_t at = (o * e.axis + k) * e.inner + i;
        if (result.is_integer())
          result.integers[at] = wrapping_sum(result.integers[at], result.integers[at - e.inner]);
        else
          result.reals[at] += result.reals[at - e.inner];
      }
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome import_reduce_sum(const NodeView& node) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  std::vector<int64_t> axes = node.integers("axes");
  if (Outcome problem = constant_integers(node, 1, &axes)) return problem;
  const Tensor& source = *node.in(0).tensor;
  const size_t rank = source.shape.size();
  std::vector<bool> gone(rank, axes.empty());
  for (const int64_t a : axes) {
    size_t axis = 0;
    if (!normalise_axis(a, rank, &axis)) return Problem{"an axis is wrong", kAgain};
    gone[axis] = true;
  }
  Tensor result{.type = source.type};
  std::vector<size_t> strides(rank, 0);
  size_t count = 1;
  for (size_t d = rank; d-- > 0;) {
    if (gone[d]) continue;
    strides[d] = count;
    count *= static_cast<size_t>(source.shape[d]);
  }
  for (size_t d = 0; d < rank; ++d) {
    if (!gone[d]) result.shape.push_back(source.shape[d]);
    if (gone[d] && node.integer("keepdims", 1) != 0) result.shape.push_back(1);
  }
  result.reals.resize(source.is_integer() ? 0 : count);
  result.integers.resize(source.is_integer() ? count : 0);
  const std::vector<size_t> to = offsets(source.shape, strides);
  for (size_t i = 0; i < to.size(); ++i) {
    if (source.is_integer())
      result.integers[to[i]] = wrapping_sum(result.integers[to[i]], source.integers[i]);
    else
      result.reals[to[i]] += source.reals[i];
  }
  node.importer->define_constant(node, std::move(result));
  return {};
}

// Tables of positions are read from their first row on, either by Slice or by Gather: their length
// bounds that of sequences.
void found_positions(const NodeView& node, int64_t rows) {
  SequenceState& state = node.importer->sequences();
  if (rows < state.length || state.length < 2) return;
  state.longest = state.longest == 0 ? rows : std::min(state.longest, rows);
}

Outcome import_slice(const NodeView& node) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  const Tensor& data = *node.in(0).tensor;
  const size_t rank = data.shape.size();
  std::vector<int64_t> starts = node.integers("starts"), ends = node.integers("ends"),
                       axes = node.integers("axes"), steps;
  std::vector<int64_t>* const lists[] = {&starts, &ends, &axes, &steps};
  for (size_t i = 0; i < 4; ++i)
    if (Outcome problem = constant_integers(node, i + 1, lists[i])) return problem;
  if (axes.empty()) {
    axes.resize(starts.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  if (steps.empty()) steps.assign(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    return Problem{"starts, ends, axes and steps are not equally many", kAgain};
  Shape shape = data.shape;
  std::vector<int64_t> from(rank, 0);
  for (size_t i = 0; i < starts.size(); ++i) {
    size_t axis = 0;
    if (!normalise_axis(axes[i], rank, &axis) || steps[i] != 1)
      return Problem{"only slices of neighbouring elements are computed", kAgain};
    const int64_t extent = data.shape[axis];
    const auto limit = [&](int64_t v) {
      return std::clamp<int64_t>(v < 0 ? v + extent : v, 0, extent);
    };
    from[axis] = limit(starts[i]);
    shape[axis] = std::max<int64_t>(limit(ends[i]) - from[axis], 0);
    const int64_t length = node.importer->sequences().length;
    if (starts[i] == 0 && ends[i] == length && extent > 1) found_positions(node, extent);
    if (starts[i] == 0 && ends[i] == length && extent > 1 && extent < length)
      return Problem{"sequences of " + std::to_string(length) +
                         " tokens, the network has positions for " + std::to_string(extent),
                     "convert for shorter sequences"};
  }
  std::vector<size_t> strides(rank, 1);
  for (size_t d = rank; d-- > 1;) strides[d - 1] = strides[d] * static_cast<size_t>(data.shape[d]);
  size_t first = 0;
  for (size_t d = 0; d < rank; ++d) first += static_cast<size_t>(from[d]) * strides[d];
  std::vector<size_t> index = offsets(shape, strides);
  for (size_t& i : index) i += first;
  Tensor result;
  if (Outcome problem = fold_select(data, std::move(shape), index, &result)) return problem;
  node.importer->define_constant(node, std::move(result));
  return {};
}

// Rows of a quantised table as real numbers: positions and types are not kept as codes.
Outcome gather_real_rows(const NodeView& node, const Tensor& table) {
  if (Outcome problem = expect_constant(node, 1)) return problem;
  const Tensor& indices = *node.in(1).tensor;
  if (table.shape.empty() || table.shape[0] < 1) return Problem{"the table is empty", kAgain};
  const size_t inner = table.reals.size() / static_cast<size_t>(table.shape[0]);
  Tensor result{.type = table.type, .shape = indices.shape};
  result.shape.insert(result.shape.end(), table.shape.begin() + 1, table.shape.end());
  for (int64_t at : indices.integers) {
    if (at < 0) at += table.shape[0];
    if (at < 0 || at >= table.shape[0]) return Problem{"an index is out of range", kAgain};
    const auto row = table.reals.begin() + at * static_cast<int64_t>(inner);
    result.reals.insert(result.reals.end(), row, row + static_cast<ptrdiff_t>(inner));
  }
  if (result.reals.size() != element_count(result.shape))
    return Problem{"the indices are no integers", kAgain};
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome import_gather(const NodeView& node) {
  const Operand &data = node.in(0), &indices = node.in(1);
  const int64_t length = node.importer->sequences().length;
  if (data.is_constant() && indices.is_constant() && indices.tensor->is_integer() &&
      !data.tensor->is_integer() && data.tensor->shape.size() == 2 &&
      static_cast<int64_t>(indices.tensor->integers.size()) == length) {
    const std::vector<int64_t>& at = indices.tensor->integers;
    bool rising = length > 1 && at[0] >= 0 && at[0] < data.tensor->shape[0];
    for (size_t i = 1; rising && i < at.size(); ++i) rising = at[i] == at[i - 1] + 1;
    const int64_t rows = rising ? data.tensor->shape[0] - at[0] : 0;
    if (rising && rows < length)
      return Problem{"sequences of " + std::to_string(length) +
                         " tokens, the network has positions for " + std::to_string(rows),
                     "convert for shorter sequences"};
    if (rising) found_positions(node, rows);
  }
  if (data.is_constant() && data.tensor->grid && node.integer("axis", 0) == 0)
    return gather_real_rows(node, *data.tensor);
  return find_op("", "Gather")(node);
}

// Rows of data by tuples of indices.
Outcome import_gather_nd(const NodeView& node) {
  if (Outcome problem = all_constant(node)) return problem;
  if (node.inputs() != 2 || node.integer("batch_dims", 0) != 0)
    return Problem{"only gathers without batches are computed", kAgain};
  const Tensor &data = *node.in(0).tensor, &indices = *node.in(1).tensor;
  const size_t depth = indices.shape.empty() ? 0 : static_cast<size_t>(indices.shape.back());
  if (!indices.is_integer() || depth == 0 || depth > data.shape.size())
    return Problem{"the indices are wrong", kAgain};
  const auto split = static_cast<ptrdiff_t>(depth);
  const Shape tail(data.shape.begin() + split, data.shape.end());
  const size_t inner = element_count(tail);
  Shape shape(indices.shape.begin(), indices.shape.end() - 1);
  shape.insert(shape.end(), tail.begin(), tail.end());
  std::vector<size_t> index;
  for (size_t t = 0; t < indices.integers.size() / depth; ++t) {
    size_t position = 0;
    for (size_t d = 0; d < depth; ++d) {
      const int64_t extent = data.shape[d];
      int64_t at = indices.integers[t * depth + d];
      if (at < 0) at += extent;
      if (at < 0 || at >= extent) return Problem{"an index is out of range", kAgain};
      position = position * static_cast<size_t>(extent) + static_cast<size_t>(at);
    }
    for (size_t i = 0; i < inner; ++i) index.push_back(position * inner + i);
  }
  Tensor result;
  if (Outcome problem = fold_select(data, std::move(shape), index, &result)) return problem;
  node.importer->define_constant(node, std::move(result));
  return {};
}

Outcome import_tile(const NodeView& node) {
  if (Outcome problem = expect_constant(node, 0)) return problem;
  std::vector<int64_t> repeats;
  if (Outcome problem = constant_integers(node, 1, &repeats)) return problem;
  Shape shape = node.shape(0);
  if (repeats.size() != shape.size()) return Problem{"repeats has the wrong length", kAgain};
  for (size_t d = 0; d < shape.size(); ++d) {
    if (repeats[d] == 1) continue;
    if (shape[d] != 1 || repeats[d] < 1) return Problem{"only extents of 1 are repeated", kAgain};
    shape[d] = repeats[d];
  }
  uint64_t elements = 0;
  if (!checked_elements(shape, &elements) || elements > 1 << 28)
    return Problem{"the result is too large", kAgain};
  return broadcast_to(node, *node.in(0).tensor, shape);
}

// Codes that no weights can have, as those of embeddings around a zero point, become real numbers.
Outcome import_dequantize(const NodeView& node) {
  Outcome problem = find_op("", "DequantizeLinear")(node);
  if (!problem || all_constant(node) || node.inputs() < 2) return problem;
  const Tensor &codes = *node.in(0).tensor, &scale = *node.in(1).tensor;
  if (!codes.is_integer() || scale.is_integer() || scale.reals.size() != 1) return problem;
  const bool shifted = node.in(2).is_constant();
  if (shifted && node.in(2).tensor->elements() != 1) return problem;
  const double zero_point = shifted ? node.in(2).tensor->at(0) : 0.0;
  Tensor result{.type = kFloat, .shape = codes.shape};
  for (size_t i = 0; i < codes.elements(); ++i)
    result.reals.push_back(static_cast<float>((codes.at(i) - zero_point) * double{scale.reals[0]}));
  node.importer->define_constant(node, std::move(result));
  return {};
}

constexpr OpRow kRows[] = {
    {"DequantizeLinear", import_dequantize},
    {"Equal", import_equal},
    {"Less", import_less},
    {"LessOrEqual", import_less_equal},
    {"Greater", import_greater},
    {"GreaterOrEqual", import_greater_equal},
    {"And", import_and},
    {"Or", import_or},
    {"Not", import_not},
    {"IsNaN", import_is_nan},
    {"Log", import_log},
    {"Exp", import_exp},
    {"Reciprocal", import_reciprocal},
    {"Neg", import_neg},
    {"Max", import_max},
    {"Min", import_min},
    {"Pow", import_pow},
    {"Expand", import_expand},
    {"Where", import_where},
    {"Range", import_range},
    {"CumSum", import_cum_sum},
    {"ReduceSum", import_reduce_sum},
    {"Slice", import_slice},
    {"Gather", import_gather},
    {"GatherND", import_gather_nd},
    {"Tile", import_tile},
};

}  // namespace

std::span<const OpRow> sequence_constant_ops() { return kRows; }

}  // namespace mpq::convert
