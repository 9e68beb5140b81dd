#include "converter/onnx/fold.h"

#include <algorithm>
#include <cmath>

namespace mpq::convert {
namespace {

constexpr int kWidths[] = {2, 4, 8};

size_t product(const Shape& shape) {
  size_t count = 1;
  for (const int64_t dim : shape) count *= static_cast<size_t>(dim);
  return count;
}

// For each element of `to`, the element of a tensor of shape `from` broadcast to it.
std::vector<size_t> broadcast_index(const Shape& from, const Shape& to) {
  std::vector<size_t> index(product(to));
  std::vector<size_t> step(to.size(), 0);
  size_t stride = 1;
  for (size_t d = from.size(); d-- > 0;) {
    if (from[d] != 1) step[d + to.size() - from.size()] = stride;
    stride *= static_cast<size_t>(from[d]);
  }
  std::vector<int64_t> at(to.size(), 0);
  size_t position = 0;
  for (size_t& entry : index) {
    entry = position;
    for (size_t d = to.size(); d-- > 0;) {
      position += step[d];
      if (++at[d] < to[d]) break;
      position -= step[d] * static_cast<size_t>(at[d]);
      at[d] = 0;
    }
  }
  return index;
}

}  // namespace

bool broadcast(const Shape& a, const Shape& b, Shape* result) {
  const size_t rank = std::max(a.size(), b.size());
  result->assign(rank, 1);
  for (size_t d = 0; d < rank; ++d) {
    const int64_t x = d + a.size() >= rank ? a[d + a.size() - rank] : 1;
    const int64_t y = d + b.size() >= rank ? b[d + b.size() - rank] : 1;
    if (x != y && x != 1 && y != 1) return false;
    (*result)[d] = x == 1 ? y : x;
  }
  uint64_t elements = 0;
  return checked_elements(*result, &elements) && elements <= uint64_t{1} << 30;
}

Outcome fold_binary(const Tensor& a, const Tensor& b, BinaryReal real, BinaryInteger integer,
                    Tensor* result) {
  if (a.is_integer() != b.is_integer())
    return Problem{"constant operands of different types", "export the model again"};
  *result = {.type = a.type};
  if (!broadcast(a.shape, b.shape, &result->shape))
    return Problem{
        "constant shapes " + to_string(a.shape) + " and " + to_string(b.shape) + " do not fit",
        "export the model again"};
  const std::vector<size_t> ia = broadcast_index(a.shape, result->shape),
                            ib = broadcast_index(b.shape, result->shape);
  for (size_t i = 0; i < ia.size(); ++i) {
    if (a.is_integer())
      result->integers.push_back(integer(a.integers[ia[i]], b.integers[ib[i]]));
    else
      result->reals.push_back(real(a.reals[ia[i]], b.reals[ib[i]]));
  }
  return {};
}

Outcome fold_select(const Tensor& source, Shape shape, const std::vector<size_t>& index,
                    Tensor* result) {
  if (source.grid || source.lsq)
    return Problem{"quantised weights are cut or rearranged after their quantiser",
                   "quantise the weights as the layer reads them"};
  *result = {.type = source.type, .shape = std::move(shape), .clip = source.clip};
  for (const size_t i : index) {
    if (source.is_integer())
      result->integers.push_back(source.integers[i]);
    else
      result->reals.push_back(source.reals[i]);
  }
  return {};
}

Tensor transpose(const Tensor& source, const std::vector<size_t>& permutation) {
  Tensor result{.type = source.type, .clip = source.clip};
  const size_t rank = source.shape.size();
  std::vector<size_t> stride(rank, 1);
  for (size_t d = rank; d-- > 1;) stride[d - 1] = stride[d] * static_cast<size_t>(source.shape[d]);
  for (const size_t d : permutation) result.shape.push_back(source.shape[d]);
  std::vector<size_t> index(source.elements());
  std::vector<int64_t> at(rank, 0);
  for (size_t& entry : index) {
    entry = 0;
    for (size_t d = 0; d < rank; ++d) entry += static_cast<size_t>(at[d]) * stride[permutation[d]];
    for (size_t d = rank; d-- > 0;) {
      if (++at[d] < result.shape[d]) break;
      at[d] = 0;
    }
  }
  for (const size_t i : index) {
    if (source.is_integer())
      result.integers.push_back(source.integers[i]);
    else
      result.reals.push_back(source.reals[i]);
    if (!source.positions.empty()) result.positions.push_back(source.positions[i]);
  }
  const auto moved = [&](size_t axis) {
    return static_cast<size_t>(std::find(permutation.begin(), permutation.end(), axis) -
                               permutation.begin());
  };
  if (source.grid) {
    auto grid = std::make_shared<Grid>(*source.grid);
    for (size_t i = 0; i < index.size(); ++i) grid->codes[i] = source.grid->codes[index[i]];
    for (size_t i = 0; i < grid->positions.size(); ++i)
      grid->positions[i] = source.grid->positions[index[i]];
    grid->axis = moved(grid->axis);
    result.grid = std::move(grid);
  }
  if (source.lsq) {
    auto stage = std::make_shared<LsqStage>(*source.lsq);
    stage->axis = moved(stage->axis);
    result.lsq = std::move(stage);
  }
  return result;
}

Outcome read_scale(const Tensor& scale, const Shape& shape, int64_t axis,
                   std::vector<float>* values, size_t* along) {
  *along = 0;
  if (scale.is_integer()) return Problem{"a scale is not floating point", "export the model again"};
  *values = scale.reals;
  for (const float s : *values)
    if (!std::isfinite(s) || s <= 0.0F)
      return Problem{"a scale is not positive and finite", "calibrate or train the quantiser"};
  if (values->size() == 1) return {};
  const auto fail = [&] {
    return Problem{"scales of shape " + to_string(scale.shape) + " for a tensor " +
                       to_string(shape) +
                       ": neither per tensor nor per channel (blocks and groups are not supported)",
                   "quantise per tensor or per output channel"};
  };
  if (axis >= 0 && scale.shape.size() == 1) {
    if (static_cast<size_t>(axis) >= shape.size() ||
        shape[static_cast<size_t>(axis)] != scale.shape[0])
      return fail();
    *along = static_cast<size_t>(axis);
    return {};
  }
  if (scale.shape.size() > shape.size()) return fail();
  size_t wide = 0;
  for (size_t d = 0; d < scale.shape.size(); ++d) {
    if (scale.shape[d] == 1) continue;
    *along = d + shape.size() - scale.shape.size();
    if (scale.shape[d] != shape[*along]) return fail();
    ++wide;
  }
  if (wide != 1) return fail();
  return {};
}

Outcome activation_spec(float scale, int64_t zero_point, int64_t lo, int64_t hi, QuantSpec* spec) {
  int bits = 0;
  for (const int width : kWidths)
    if (bits == 0 && hi - lo < int64_t{1} << width) bits = width;
  if (bits == 0 || lo >= hi)
    return Problem{
        "activation codes " + std::to_string(lo) + ".." + std::to_string(hi) + " do not fit 8 bits",
        "quantise activations to 8, 4 or 2 bits"};
  const int64_t half = int64_t{1} << (bits - 1), levels = half * 2;
  const int64_t shift = lo >= 0 && hi < levels ? 0 : lo >= -half && hi < half ? half : -lo;
  if (zero_point + shift < 0 || zero_point + shift >= levels)
    return Problem{"zero point " + std::to_string(zero_point) + " is outside the codes " +
                       std::to_string(lo) + ".." + std::to_string(hi),
                   "choose a range of the activation that contains 0"};
  *spec = {.bits = bits,
           .is_signed = false,
           .scale = {scale},
           .zero_point = static_cast<int32_t>(zero_point + shift),
           .lo = static_cast<int32_t>(lo + shift),
           .hi = static_cast<int32_t>(hi + shift)};
  return {};
}

Outcome weight_grid(const Shape& shape, const std::vector<int64_t>& codes,
                    std::span<const float> positions, const std::vector<int64_t>& zero_points,
                    std::vector<float> scale, size_t axis, int64_t lo, int64_t hi, Tensor* result) {
  auto grid = std::make_shared<Grid>();
  *result = {.type = kFloat, .shape = shape, .reals = std::vector<float>(codes.size())};
  int64_t lowest = 0, highest = 0;
  std::vector<int64_t> centred(codes.size());
  grid->positions.assign(positions.begin(), positions.end());
  for_each_with_axis(shape, axis, zero_points.size(), [&](size_t i, size_t entry) {
    centred[i] = codes[i] - zero_points[entry];
    lowest = std::min(lowest, centred[i]);
    highest = std::max(highest, centred[i]);
    if (positions.empty()) return;
    const float position = positions[i] - static_cast<float>(zero_points[entry]);
    grid->positions[i] = std::isfinite(position) ? position : static_cast<float>(centred[i]);
  });
  // The width that the range states, or the next one that holds the codes after centring.
  grid->bits = 0;
  for (const int width : kWidths)
    if (grid->bits == 0 && hi - lo < int64_t{1} << width && lowest >= -(1 << (width - 1)) &&
        highest < 1 << (width - 1))
      grid->bits = width;
  if (grid->bits == 0)
    return Problem{"weight codes " + std::to_string(lowest) + ".." + std::to_string(highest) +
                       " around the zero point do not fit 8 signed bits",
                   "quantise weights symmetrically to 8, 4 or 2 bits"};
  grid->lo = -(1 << (grid->bits - 1));
  grid->hi = -grid->lo - 1;
  if (zero_points.size() == 1) {  // narrow ranges stay narrow
    grid->lo = static_cast<int32_t>(std::max<int64_t>(grid->lo, lo - zero_points[0]));
    grid->hi = static_cast<int32_t>(std::min<int64_t>(grid->hi, hi - zero_points[0]));
  }
  grid->axis = axis;
  grid->codes.resize(codes.size());
  for_each_with_axis(shape, axis, scale.size(), [&](size_t i, size_t entry) {
    grid->codes[i] = static_cast<int8_t>(centred[i]);
    result->reals[i] = static_cast<float>(centred[i]) * scale[entry];
  });
  grid->scale = std::move(scale);
  result->grid = std::move(grid);
  return {};
}

WeightQuant weight_quant_of(const Grid& grid) {
  return {{.bits = grid.bits,
           .is_signed = true,
           .scale = grid.scale,
           .zero_point = 0,
           .lo = grid.lo,
           .hi = grid.hi},
          grid.codes,
          grid.positions};
}

}  // namespace mpq::convert
