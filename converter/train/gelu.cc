// x Phi(x), with the error function or its approximation by tanh.
#include <cmath>

#include "converter/train/exponential.h"
#include "converter/train/loops.h"

namespace mpq::convert::train {
namespace {

struct Curve {
  float y, slope;
};

// erf by Abramowitz and Stegun, 7.1.26: within 1.5e-7.
struct ByErf {
  static Curve at(float x) {
    constexpr float kRootHalf = 0.70710678F, kDensity = 0.39894228F;  // 1/sqrt(2), 1/sqrt(2 pi)
    const float bell = exp_of(-0.5F * x * x),
                t = 1.0F / (1.0F + 0.3275911F * kRootHalf * std::abs(x));
    const float tail =
        0.5F * bell * t *
        (0.254829592F +
         t * (-0.284496736F + t * (1.421413741F + t * (-1.453152027F + t * 1.061405429F))));
    const float phi = x < 0.0F ? tail : 1.0F - tail;
    return {x * phi, phi + x * kDensity * bell};
  }
};

struct ByTanh {
  static Curve at(float x) {
    constexpr float kFactor = 0.79788456F, kCubic = 0.044715F;  // sqrt(2 / pi)
    const float square = x * x, u = kFactor * (x + kCubic * x * square);
    const float phi = 1.0F / (1.0F + exp_of(-2.0F * u));  // (1 + tanh u) / 2
    return {x * phi,
            phi + 2.0F * x * phi * (1.0F - phi) * kFactor * (1.0F + 3.0F * kCubic * square)};
  }
};

MPQ_CLONES void forward_erf(const float* x, float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) y[i] = ByErf::at(x[i]).y;
}
MPQ_CLONES void forward_tanh(const float* x, float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) y[i] = ByTanh::at(x[i]).y;
}
MPQ_CLONES void slope_erf(const float* x, float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) y[i] = ByErf::at(x[i]).slope;
}
MPQ_CLONES void slope_tanh(const float* x, float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) y[i] = ByTanh::at(x[i]).slope;
}

}  // namespace

Step make_gelu(const StepContext& context) {
  const bool tanh = std::get<Gelu>(context.node.op).tanh;
  const auto forward = tanh ? forward_tanh : forward_erf, slope = tanh ? slope_tanh : slope_erf;
  Step step;
  step.forward = [forward](Inputs in, std::span<float> y, const Run&) {
    parallel_for(y.size(), kGrain, [&](size_t begin, size_t end) {
      forward(in[0].data() + begin, y.data() + begin, end - begin);
    });
  };
  step.backward = [slope](Inputs in, std::span<const float>, std::span<const float> dy,
                          std::span<const Sink> sinks, const Run&) {
    if (sinks[0].grad.empty()) return;
    std::vector<float> slopes(dy.size());
    parallel_for(dy.size(), kGrain, [&](size_t begin, size_t end) {
      slope(in[0].data() + begin, slopes.data() + begin, end - begin);
    });
    give(sinks[0], [&](size_t i) { return dy[i] * slopes[i]; });
  };
  return step;
}

}  // namespace mpq::convert::train
