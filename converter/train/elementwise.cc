// Operators on single elements, and those that only move them.
#include <cmath>

#include "converter/train/loops.h"

namespace mpq::convert::train {
namespace {

// y = value(x), dy/dx = slope(x, y).
template <typename Value, typename Slope>
Step map(Value value, Slope slope) {
  Step step;
  step.forward = [value](Inputs in, std::span<float> y, const Run&) {
    fill(y, [&, x = in[0].data()](size_t i) { return value(x[i]); });
  };
  step.backward = [slope](Inputs in, std::span<const float> y, std::span<const float> dy,
                          std::span<const Sink> sinks, const Run&) {
    give(sinks[0], [&, x = in[0].data()](size_t i) { return dy[i] * slope(x[i], y[i]); });
  };
  return step;
}

}  // namespace

// What is not a number stays so: it must be found. Both loops select, so that they
// become vector instructions.
Step make_relu(const StepContext&) {
  Step step;
  step.forward = [](Inputs in, std::span<float> y, const Run&) {
    fill(y, [x = in[0].data()](size_t i) { return x[i] < 0.0F ? 0.0F : x[i]; });
  };
  step.backward = [](Inputs, std::span<const float> y, std::span<const float> dy,
                     std::span<const Sink> sinks, const Run&) {
    give(sinks[0], [dy = dy.data(), y = y.data()](size_t i) {
      const float slope = dy[i];
      return y[i] > 0.0F ? slope : 0.0F;
    });
  };
  return step;
}

Step make_clip(const StepContext& context) {
  const Clip op = std::get<Clip>(context.node.op);
  return map([op](float x) { return std::min(std::max(x, op.lo), op.hi); },
             [op](float x, float) { return x > op.lo && x < op.hi ? 1.0F : 0.0F; });
}

Step make_tanh(const StepContext&) {
  return map([](float x) { return std::tanh(x); }, [](float, float y) { return 1.0F - y * y; });
}

Step make_add(const StepContext&) {
  Step step;
  step.forward = [](Inputs in, std::span<float> y, const Run&) {
    fill(y, [a = in[0].data(), b = in[1].data()](size_t i) { return a[i] + b[i]; });
  };
  step.backward = [](Inputs, std::span<const float>, std::span<const float> dy,
                     std::span<const Sink> sinks, const Run&) {
    for (const Sink& sink : sinks) give(sink, [&](size_t i) { return dy[i]; });
  };
  return step;
}

// Columns of the result are in the order of [C,H,W]: pixels of a channel together.
Step make_flatten(const StepContext& context) {
  const size_t area = context.x.h * context.x.w, channels = context.x.c;
  const auto source = [area, channels](size_t i) {
    const size_t image = i / (area * channels), c = i / area % channels, pixel = i % area;
    return (image * area + pixel) * channels + c;
  };
  const auto target = [area, channels](size_t i) {
    const size_t image = i / (area * channels), pixel = i / channels % area, c = i % channels;
    return (image * channels + c) * area + pixel;
  };
  Step step;
  step.forward = [source](Inputs in, std::span<float> y, const Run&) {
    fill(y, [&](size_t i) { return in[0][source(i)]; });
  };
  step.backward = [target](Inputs, std::span<const float>, std::span<const float> dy,
                           std::span<const Sink> sinks,
                           const Run&) { give(sinks[0], [&](size_t i) { return dy[target(i)]; }); };
  return step;
}

}  // namespace mpq::convert::train
