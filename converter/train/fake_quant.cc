// Quantisation in float with learned steps: of activations, and of weights before their layer.
#include "converter/train/loops.h"
#include "converter/train/lsq.h"

namespace mpq::convert::train {
namespace {

struct Quantiser {
  int32_t lo, hi, zero;  // zero: when there is no offset
  size_t part, features;
  bool of_weights;
  uint64_t salt;  // one quantiser's draws are not another's

  LsqGrid grid(Inputs in, const Run& run) const {
    const int32_t z = in.size() > 2 ? zero_point_of(in[2][0], in[1][0], lo, hi) : zero;
    const Dropped dropped =
        of_weights ? Dropped{} : Dropped{run.dropped.share, run.dropped.seed ^ salt};
    return {in[1], part, static_cast<float>(lo - z), static_cast<float>(hi - z), dropped};
  }
};

}  // namespace

Step make_fake_quant(const StepContext& context) {
  const QuantSpec& spec = std::get<FakeQuant>(context.node.op).spec;
  const Value& x = context.graph.values[context.node.inputs[0]];
  const size_t sample = context.x.h * context.x.w * context.x.c;
  // Weights have a step a channel, activations a step for each part of a row.
  const size_t features = x.is_constant ? x.data.size() / spec.scale.size() : sample;
  const size_t part = x.is_constant ? features : context.x.c / spec.scale.size();
  const Quantiser quantiser{spec.lo,
                            spec.hi,
                            spec.zero_point,
                            part,
                            features,
                            x.is_constant,
                            uint64_t{context.node.output} << 32};
  Step step;
  step.forward = [quantiser](Inputs in, std::span<float> y, const Run& run) {
    lsq_forward(quantiser.grid(in, run), in[0], y);
  };
  step.backward = [quantiser](Inputs in, std::span<const float>, std::span<const float> dy,
                              std::span<const Sink> sinks, const Run& run) {
    LsqGradients gradients =
        lsq_backward(quantiser.grid(in, run), in[0], dy, sinks[0].grad, sinks[0].add);
    const float factor = lsq_gradient_scale(quantiser.features, quantiser.hi);
    for (double& g : gradients.steps) g *= factor;
    give_sums(sinks[1], gradients.steps);
    if (sinks.size() > 2) give_sums(sinks[2], {gradients.offset * factor});
  };
  return step;
}

}  // namespace mpq::convert::train
