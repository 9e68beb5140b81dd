#include "converter/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "converter/passes/block_sum.h"
#include "converter/train/loops.h"

namespace mpq::convert::train {

namespace {

// What AdamW does to equal elements of a parameter.
struct Moments {
  float b1, b2, correction1, correction2, epsilon;
};
struct Move {
  float shrink, rate, decay, lowest;  // of gradients; of moves; of the value; its bound
};

MPQ_CLONES void move(const Moments& a, const Move& by, const float* g, float* m, float* v, float* x,
                     size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float d = g[i] * by.shrink;
    m[i] = a.b1 * m[i] + (1.0F - a.b1) * d;
    v[i] = a.b2 * v[i] + (1.0F - a.b2) * d * d;
    const float step = m[i] / a.correction1 / (std::sqrt(v[i] / a.correction2) + a.epsilon);
    x[i] = std::max(x[i] - (by.rate * step + by.decay * x[i]), by.lowest);
  }
}

}  // namespace

float decay_share(int bits) { return bits <= 2 ? 0.25F : bits == 3 ? 0.5F : 1.0F; }

Optimizer::Optimizer(Tape* tape, const OptimizerOptions& options) : tape_(tape), options_(options) {
  const size_t momenta = options.method == Method::kAdamW ? 2 : 1;
  for (const Parameter& parameter : tape->parameters())
    for (size_t m = 0; parameter.trained && m < momenta; ++m)
      state_.emplace_back(tape->data(parameter.value).size());
  for (const Parameter& parameter : tape->parameters()) {
    const std::span<const float> x = tape->data(parameter.value);
    const double square = block_sum(x.size(), [&](size_t i) { return x[i] * x[i]; });
    sizes_.push_back(
        static_cast<float>(std::sqrt(square / static_cast<double>(std::max<size_t>(x.size(), 1)))));
  }
}

// Of equal parts of a parameter, one behind the other.
std::vector<float> Optimizer::units(const Parameter& parameter, float size) const {
  if (!options_.relative) return {1.0F};
  const bool own = parameter.role == Role::kStep;
  if (!own && parameter.step == kNoValue) return {size};
  const std::span<const float> step = tape_->data(own ? parameter.value : parameter.step);
  std::vector<float> units(step.begin(), step.end());
  if (own) return units;
  // Codes of 2 bits are five times as far apart over the same range as codes of 4.
  constexpr float kIntervals = 15.0F;
  const float intervals = std::exp2(static_cast<float>(parameter.bits)) - 1.0F;
  for (float& unit : units) unit *= std::min(intervals / kIntervals, 1.0F);
  return units;
}

Checked Optimizer::step(float learning_rate) {
  double square = 0.0;
  for (const Parameter& parameter : tape_->parameters()) {
    if (!parameter.trained) continue;
    const std::span<const float> g = tape_->gradient(parameter.value);
    const double own = block_sum(g.size(), [&](size_t i) { return g[i] * g[i]; });
    if (!std::isfinite(own))
      return Error{Status::kInternal, "the gradient of " + parameter.name + " is not finite"};
    square += own;
  }
  const double norm = std::sqrt(square);
  const bool clips = options_.largest_norm > 0.0F && norm > options_.largest_norm;
  const float shrink = clips ? static_cast<float>(options_.largest_norm / norm) : 1.0F;

  ++steps;
  const auto count = static_cast<double>(steps);
  const auto correction1 = static_cast<float>(1.0 - std::pow(double{options_.beta1}, count)),
             correction2 = static_cast<float>(1.0 - std::pow(double{options_.beta2}, count));
  auto state = state_.begin();
  auto size = sizes_.begin();
  for (const Parameter& parameter : tape_->parameters()) {
    const float own_size = *size++;
    if (!parameter.trained) continue;
    const std::span<float> x = tape_->data(parameter.value);
    const std::span<const float> g = tape_->gradient(parameter.value);
    const bool of_quantiser = parameter.role == Role::kStep || parameter.role == Role::kOffset;
    const bool slowed = options_.relative ? parameter.role != Role::kWeight : of_quantiser;
    const float rate = learning_rate * (slowed ? options_.step_rate : 1.0F);
    const float decay = parameter.role == Role::kWeight
                            ? options_.weight_decay * decay_share(parameter.bits)
                            : 0.0F;
    const float lowest = parameter.minimum;
    float* const m = (state++)->data();
    if (options_.method == Method::kSgd) {
      const float momentum = options_.momentum, straight = options_.nesterov ? 1.0F : 0.0F;
      const float along = options_.nesterov ? momentum : 1.0F;
      parallel_for(x.size(), kGrain, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) {
          const float d = g[i] * shrink + decay * x[i];
          m[i] = momentum * m[i] + d;
          x[i] = std::max(x[i] - rate * (straight * d + along * m[i]), lowest);
        }
      });
    } else {
      float* const v = (state++)->data();
      const Moments moments{options_.beta1, options_.beta2, correction1, correction2,
                            options_.epsilon};
      const std::vector<float> unit = units(parameter, own_size);
      const size_t part = x.size() / unit.size();
      parallel_for(x.size(), kGrain, [&](size_t begin, size_t end) {
        for (size_t stop = begin; begin < end; begin = stop) {
          stop = std::min(end, (begin / part + 1) * part);
          move(moments, {shrink, rate * unit[begin / part], rate * decay, lowest}, g.data() + begin,
               m + begin, v + begin, x.data() + begin, stop - begin);
        }
      });
    }
  }
  return Ok{};
}

}  // namespace mpq::convert::train
