// Batch norm by oneDNN. By the moments of the batch, with running moments kept as PyTorch keeps
// them (momentum 0.1, variance of the sample). Else frozen: the running moments, a fixed affine
// map.
#include <memory>

#include "converter/train/loops.h"

namespace mpq::convert::train {
namespace {

constexpr float kMomentum = 0.1F;
constexpr auto kF32 = dnnl::memory::data_type::f32;

struct Normalisation {
  using Forward = dnnl::batch_normalization_forward;
  using Backward = dnnl::batch_normalization_backward;
  struct Mode {
    Forward forward;
    Backward backward;
  };

  Engine& engine;
  size_t channels, count;
  dnnl::memory::desc image, vector;
  Mode training, frozen;
  std::vector<float> mean, variance;  // of the batch

  explicit Normalisation(const StepContext& context)
      : engine(context.engine), channels(context.x.c), count(context.x.pixels()) {
    const Extent& e = context.x;
    const auto dim = [](size_t size) { return static_cast<int64_t>(size); };
    image = {{dim(e.n), dim(e.c), dim(e.h), dim(e.w)}, kF32, dnnl::memory::format_tag::nhwc};
    vector = {{dim(e.c)}, kF32, dnnl::memory::format_tag::a};
    mean.resize(channels);
    variance.resize(channels);
    const float epsilon = std::get<BatchNorm>(context.node.op).epsilon;
    using Flags = dnnl::normalization_flags;
    const Flags affine = Flags::use_scale | Flags::use_shift;
    training = make(epsilon, affine);
    frozen = make(epsilon, affine | Flags::use_global_stats);
  }

  Mode make(float epsilon, dnnl::normalization_flags flags) const {
    const Forward::primitive_desc forward(
        {dnnl::prop_kind::forward_training, image, epsilon, flags}, engine.engine);
    const Backward::primitive_desc backward(
        {dnnl::prop_kind::backward, image, image, epsilon, flags}, engine.engine, forward);
    return {Forward(forward), Backward(backward)};
  }

  dnnl::memory memory(const dnnl::memory::desc& desc, const float* data) const {
    return {desc, engine.engine, const_cast<float*>(data)};
  }
  std::unordered_map<int, dnnl::memory> operands(Inputs in, const Run& run) const {
    return {
        {DNNL_ARG_SRC, memory(image, in[0].data())},
        {DNNL_ARG_SCALE, memory(vector, in[1].data())},
        {DNNL_ARG_SHIFT, memory(vector, in[2].data())},
        {DNNL_ARG_MEAN, memory(vector, run.batch_moments ? mean.data() : in[3].data())},
        {DNNL_ARG_VARIANCE, memory(vector, run.batch_moments ? variance.data() : in[4].data())}};
  }

  void forward(Inputs in, std::span<float> y, const Run& run) {
    auto args = operands(in, run);
    args[DNNL_ARG_DST] = memory(image, y.data());
    (run.batch_moments ? training : frozen).forward.execute(engine.stream, args);
    engine.stream.wait();
    if (!run.batch_moments) return;
    const float sample =
        count > 1 ? static_cast<float>(count) / static_cast<float>(count - 1) : 1.0F;
    for (size_t c = 0; c < channels; ++c) {
      in[3][c] += kMomentum * (mean[c] - in[3][c]);
      in[4][c] += kMomentum * (variance[c] * sample - in[4][c]);
    }
  }

  void backward(Inputs in, std::span<const float> dy, std::span<const Sink> sinks, const Run& run) {
    std::vector<float> unwanted(sinks[0].grad.empty() ? in[0].size() : 0);
    std::vector<float> dgamma(channels), dbeta(channels);
    const Sink wanted = sinks[0].grad.empty() ? Sink{unwanted, false} : sinks[0];
    Overwriting dx(wanted);
    auto args = operands(in, run);
    args[DNNL_ARG_DIFF_DST] = memory(image, dy.data());
    args[DNNL_ARG_DIFF_SRC] = memory(image, dx.data());
    args[DNNL_ARG_DIFF_SCALE] = memory(vector, dgamma.data());
    args[DNNL_ARG_DIFF_SHIFT] = memory(vector, dbeta.data());
    (run.batch_moments ? training : frozen).backward.execute(engine.stream, args);
    engine.stream.wait();
    dx.finish();
    give(sinks[1], [&](size_t c) { return dgamma[c]; });
    give(sinks[2], [&](size_t c) { return dbeta[c]; });
  }
};

}  // namespace

Step make_batch_norm(const StepContext& context) {
  const auto norm = std::make_shared<Normalisation>(context);  // of both functions
  Step step;
  step.forward = [norm](Inputs in, std::span<float> y, const Run& run) {
    norm->forward(in, y, run);
  };
  step.backward = [norm](Inputs in, std::span<const float>, std::span<const float> dy,
                         std::span<const Sink> sinks,
                         const Run& run) { norm->backward(in, dy, sinks, run); };
  return step;
}

}  // namespace mpq::convert::train
