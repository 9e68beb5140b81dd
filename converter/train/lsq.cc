#include "converter/train/lsq.h"

#include <algorithm>
#include <cmath>

#include "converter/passes/block_sum.h"
#include "converter/train/loops.h"

namespace mpq::convert::train {
namespace {

constexpr size_t kBlock = 4096;

// Round to nearest, ties to even, for |v| <= 2^22.
inline float round_half_even(float v) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23: leaves no bits for the fraction
  return (v + kMagic) - kMagic;
}

// Blocks of at most kBlock elements that lie in one part: body(begin, end, step, block).
template <typename Body>
void for_part_blocks(const LsqGrid& grid, size_t count, const Body& body) {
  const size_t part = grid.steps.size() == 1 ? count : grid.part;
  if (part == 0) return;
  const size_t each = (part + kBlock - 1) / kBlock, parts = count / part;
  const size_t grain = std::max<size_t>(kGrain / std::min(part, kBlock), 1);
  parallel_for(parts * each, grain, [&](size_t first, size_t last) {
    for (size_t b = first; b < last; ++b) {
      const size_t p = b / each, begin = p * part + b % each * kBlock;
      body(begin, std::min((p + 1) * part, begin + kBlock), p % grid.steps.size(), b);
    }
  });
}

size_t block_count(const LsqGrid& grid, size_t count) {
  const size_t part = grid.steps.size() == 1 ? count : grid.part;
  return part == 0 ? 0 : count / part * ((part + kBlock - 1) / kBlock);
}

}  // namespace

void lsq_forward(const LsqGrid& grid, std::span<const float> x, std::span<float> y) {
  for_part_blocks(grid, x.size(), [&](size_t begin, size_t end, size_t s, size_t) {
    const float step = grid.steps[s], lo = grid.lo, hi = grid.hi;
    for (size_t i = begin; i < end; ++i)
      y[i] = round_half_even(std::min(std::max(x[i] / step, lo), hi)) * step;
  });
}

LsqGradients lsq_backward(const LsqGrid& grid, std::span<const float> x, std::span<const float> dy,
                          std::span<float> dx, bool add) {
  constexpr size_t kLanes = 16;
  struct Partial {
    size_t step = 0;
    double steps = 0.0, offset = 0.0;
  };
  std::vector<Partial> partial(block_count(grid, x.size()));
  for_part_blocks(grid, x.size(), [&](size_t begin, size_t end, size_t s, size_t block) {
    const float step = grid.steps[s], lo = grid.lo, hi = grid.hi;
    float by_step[kLanes] = {}, by_offset[kLanes] = {};
    const auto visit = [&](size_t i, size_t lane) {
      const float v = x[i] / step, g = dy[i];
      const bool inside = v > lo && v < hi;
      const float nearest = round_half_even(std::min(std::max(v, lo), hi));
      by_step[lane] += g * (inside ? nearest - v : nearest);
      by_offset[lane] += inside ? 0.0F : g;
      return inside ? g : 0.0F;
    };
    const auto all = [&](const auto& write) {
      size_t i = begin;
      for (; i + kLanes <= end; i += kLanes)
        for (size_t lane = 0; lane < kLanes; ++lane) write(i + lane, visit(i + lane, lane));
      for (size_t lane = 0; i < end; ++i, ++lane) write(i, visit(i, lane));
    };
    if (dx.empty())
      all([](size_t, float) {});
    else if (add)
      all([&](size_t i, float g) { dx[i] += g; });
    else
      all([&](size_t i, float g) { dx[i] = g; });
    Partial& sum = partial[block];
    sum.step = s;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      sum.steps += by_step[lane];
      sum.offset += by_offset[lane];
    }
  });
  LsqGradients gradients{std::vector<double>(grid.steps.size())};
  for (const Partial& sum : partial) {
    gradients.steps[sum.step] += sum.steps;
    gradients.offset += sum.offset;
  }
  return gradients;
}

float lsq_gradient_scale(size_t features, int32_t hi) {
  return static_cast<float>(
      1.0 / std::sqrt(static_cast<double>(features) * static_cast<double>(std::max(hi, 1))));
}

float lsq_first_step(std::span<const float> x, int32_t hi) {
  const double sum = block_sum(x.size(), [&](size_t i) { return std::abs(x[i]); });
  const double step =
      2.0 * sum / static_cast<double>(x.size()) / std::sqrt(static_cast<double>(std::max(hi, 1)));
  return step > 0.0 && std::isfinite(step) ? static_cast<float>(step) : 1.0F;
}

int32_t zero_point_of(float offset, float step, int32_t lo, int32_t hi) {
  const float zero = std::nearbyint(-offset / step);
  return static_cast<int32_t>(std::clamp(zero, static_cast<float>(lo), static_cast<float>(hi)));
}

int32_t lsq_code(float x, float step, int32_t lo, int32_t hi) {
  return static_cast<int32_t>(round_half_even(
      std::min(std::max(x / step, static_cast<float>(lo)), static_cast<float>(hi))));
}

}  // namespace mpq::convert::train
