// y [M,N] = x [M,K] w [N,K]^T + b. Any number of rows.
#include <memory>

#include "converter/train/loops.h"
#include "converter/train/product.h"
#include "converter/train/rounded_product.h"

namespace mpq::convert::train {
namespace {

// What is multiplied is rounded to bfloat16; x and w are kept so for the way back.
struct RoundedLinear {
  size_t n, k;
  RoundedProduct multiply;
  RoundedMatrix x, w, dy;

  RoundedLinear(size_t outputs, size_t inputs, Engine* engine)
      : n(outputs), k(inputs), multiply(engine) {}

  void forward(Inputs in, std::span<float> y) {
    x.assign(in[0], k, RoundedMatrix::kTokenRows);
    w.assign(in[1], k, RoundedMatrix::kAnyRows);
    const float* const xw = multiply({x}, {w, true});
    if (in.size() > 2 && !in[2].empty())
      for_rows(y.size() / n, n,
               [&](size_t r, size_t c) { y[r * n + c] = xw[r * n + c] + in[2][c]; });
    else
      std::copy_n(xw, y.size(), y.data());
  }
  void backward(std::span<const float> dy_real, std::span<const Sink> sinks) {
    dy.assign(dy_real, n, RoundedMatrix::kTokenRows);
    const auto give_product = [&](const Sink& sink, const Factor& a, const Factor& b) {
      if (!sink.grad.empty()) give(sink, [ab = multiply(a, b)](size_t i) { return ab[i]; });
    };
    give_product(sinks[0], {dy}, {w});
    give_product(sinks[1], {dy, true}, {x});
    if (sinks.size() > 2) give_bias(sinks[2], dy_real);
  }
};

Step make_rounded_linear(const StepContext& context, size_t n, size_t k) {
  const auto linear = std::make_shared<RoundedLinear>(n, k, &context.engine);
  Step step;
  step.forward = [linear](Inputs in, std::span<float> y, const Run&) { linear->forward(in, y); };
  step.backward = [linear](Inputs, std::span<const float>, std::span<const float> dy,
                           std::span<const Sink> sinks,
                           const Run&) { linear->backward(dy, sinks); };
  return step;
}

}  // namespace

Step make_linear(const StepContext& context) {
  const auto n = static_cast<size_t>(context.shape(1)[0]),
             k = static_cast<size_t>(context.shape(1)[1]);
  if (context.engine.bfloat16) return make_rounded_linear(context, n, k);
  Step step;
  step.forward = [n, k](Inputs in, std::span<float> y, const Run&) {
    const size_t m = in[0].size() / k;
    const bool biased = in.size() > 2 && !in[2].empty();
    if (biased) for_rows(m, n, [&](size_t r, size_t c) { y[r * n + c] = in[2][c]; });
    product({'N', 'T', m, n, k}, {in[0].data(), k}, {in[1].data(), k}, {y.data(), n}, biased);
  };
  step.backward = [n, k](Inputs in, std::span<const float>, std::span<const float> dy,
                         std::span<const Sink> sinks, const Run&) {
    const size_t m = in[0].size() / k;
    const Sink &dx = sinks[0], &dw = sinks[1];
    if (!dx.grad.empty())
      product({'N', 'N', m, k, n}, {dy.data(), n}, {in[1].data(), k}, {dx.grad.data(), k}, dx.add);
    if (!dw.grad.empty())
      product({'T', 'N', n, k, m}, {dy.data(), n}, {in[0].data(), k}, {dw.grad.data(), k}, dw.add);
    if (sinks.size() > 2) give_bias(sinks[2], dy);
  };
  return step;
}

}  // namespace mpq::convert::train
