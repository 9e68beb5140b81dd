// y [M,N] = x [M,K] w [N,K]^T + b. Any number of rows.
#include "converter/train/loops.h"
#include "converter/train/product.h"

namespace mpq::convert::train {

Step make_linear(const StepContext& context) {
  const auto n = static_cast<size_t>(context.shape(1)[0]),
             k = static_cast<size_t>(context.shape(1)[1]);
  Step step;
  step.forward = [n, k](Inputs in, std::span<float> y, const Run&) {
    const size_t m = in[0].size() / k;
    const bool biased = in.size() > 2 && !in[2].empty();
    if (biased) fill(y, [b = in[2].data(), n](size_t i) { return b[i % n]; });
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
