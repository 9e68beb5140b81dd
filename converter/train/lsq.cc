#include "converter/train/lsq.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "converter/passes/block_sum.h"
#include "converter/random.h"
#include "converter/train/loops.h"

namespace mpq::convert::train {
namespace {

constexpr size_t kBlock = 4096, kLanes = 16;

// Round to nearest, ties to even, for |v| <= 2^22. kMagic leaves no bits for the fraction.
constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23
inline float round_half_even(float v) { return (v + kMagic) - kMagic; }

MPQ_CLONES void quantise(const float* x, float* y, size_t count, float step, float lo, float hi) {
  for (size_t i = 0; i < count; ++i)
    y[i] = ((std::min(std::max(x[i] / step, lo), hi) + kMagic) - kMagic) * step;
}

// Gradients of a block: in x, and what each lane adds to those of the step and the offset. The
// lanes are a variable of its own, which the compiler keeps in registers: as the caller's they
// might be part of dx.
struct Lanes {
  float steps[kLanes] = {}, offset[kLanes] = {};
};
MPQ_CLONES void add_to_lanes(const float* __restrict x, size_t count, float* __restrict lanes) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane];
  for (size_t lane = 0; i < count; ++i, ++lane) lanes[lane] += x[i];
}
// Element by element first, which becomes vector instructions, then the sums.
MPQ_CLONES void differentiate(const float* __restrict x, const float* __restrict dy,
                              float* __restrict dx, size_t count, float step, float lo, float hi,
                              Lanes* sums) {
  float steps[kBlock], offset[kBlock];
  for (size_t i = 0; i < count; ++i) {
    const float v = x[i] / step, g = dy[i];
    const float nearest = (std::min(std::max(v, lo), hi) + kMagic) - kMagic;
    // All bits or none, and no branch: without masked instructions compilers vectorise only this.
    const uint32_t inside = 0U - (static_cast<uint32_t>(v > lo) & static_cast<uint32_t>(v < hi));
    steps[i] = g * (nearest - std::bit_cast<float>(std::bit_cast<uint32_t>(v) & inside));
    offset[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(g) & ~inside);
    dx[i] = g - offset[i];
  }
  add_to_lanes(steps, count, sums->steps);
  add_to_lanes(offset, count, sums->offset);
}

// to[i] = from[i] where element first + i of the tensor is dropped (lowbias32 of C. Wellons).
MPQ_CLONES void take_where_drawn(const float* from, float* to, size_t count, uint32_t first,
                                 uint32_t seed, uint32_t below) {
  for (size_t i = 0; i < count; ++i) {
    uint32_t h = first + static_cast<uint32_t>(i) + seed;
    h = (h ^ (h >> 16)) * 0x7FEB352DU;
    h = (h ^ (h >> 15)) * 0x846CA68BU;
    h ^= h >> 16;
    to[i] = h < below ? from[i] : to[i];
  }
}

struct Coins {
  uint32_t seed, below;
  explicit Coins(const Dropped& dropped) {
    uint64_t state = dropped.seed;
    seed = static_cast<uint32_t>(next_random(&state));
    below = static_cast<uint32_t>(std::clamp(double{dropped.share}, 0.0, 1.0) * 0xFFFFFFFFU);
  }
  void take(const float* from, float* to, size_t begin, size_t end) const {
    if (below != 0)
      take_where_drawn(from, to, end - begin, static_cast<uint32_t>(begin), seed, below);
  }
};

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

void take_dropped(const Dropped& dropped, std::span<const float> from, std::span<float> to) {
  Coins(dropped).take(from.data(), to.data(), 0, to.size());
}

void lsq_forward(const LsqGrid& grid, std::span<const float> x, std::span<float> y) {
  const Coins coins(grid.dropped);
  for_part_blocks(grid, x.size(), [&](size_t begin, size_t end, size_t s, size_t) {
    quantise(x.data() + begin, y.data() + begin, end - begin, grid.steps[s], grid.lo, grid.hi);
    coins.take(x.data() + begin, y.data() + begin, begin, end);
  });
}

LsqGradients lsq_backward(const LsqGrid& grid, std::span<const float> x, std::span<const float> dy,
                          std::span<float> dx, bool add) {
  struct Partial {
    size_t step = 0;
    double steps = 0.0, offset = 0.0;
  };
  const Coins coins(grid.dropped);
  std::vector<Partial> partial(block_count(grid, x.size()));
  for_part_blocks(grid, x.size(), [&](size_t begin, size_t end, size_t s, size_t block) {
    // What was dropped gives its gradient to x alone.
    float quantised[kBlock], beside[kBlock];
    static constexpr float kNone[kBlock] = {};
    const size_t count = end - begin;
    const float* from = dy.data() + begin;
    if (coins.below != 0) {
      std::copy_n(from, count, quantised);
      coins.take(kNone, quantised, begin, end);
      from = quantised;
    }
    const bool straight = !add && !dx.empty();
    float* const own = straight ? dx.data() + begin : beside;
    Lanes lanes;
    differentiate(x.data() + begin, from, own, count, grid.steps[s], grid.lo, grid.hi, &lanes);
    coins.take(dy.data() + begin, own, begin, end);
    for (size_t i = 0; i < count && add && !dx.empty(); ++i) dx[begin + i] += own[i];
    Partial& sum = partial[block];
    sum.step = s;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      sum.steps += lanes.steps[lane];
      sum.offset += lanes.offset[lane];
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

void requantise(std::span<const float> weights, WeightQuant* quant) {
  const QuantSpec& spec = quant->spec;
  const size_t part = weights.size() / spec.scale.size();
  quant->codes.resize(weights.size());
  quant->positions.resize(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const float step = spec.scale[i / part];
    quant->positions[i] = weights[i] / step;
    quant->codes[i] = static_cast<int8_t>(lsq_code(weights[i], step, spec.lo, spec.hi));
  }
}

}  // namespace mpq::convert::train
