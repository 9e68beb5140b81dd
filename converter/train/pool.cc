// Pooling by oneDNN. The maximum keeps its positions in a workspace; the average counts the whole
// window.
#include <memory>

#include "converter/train/loops.h"

namespace mpq::convert::train {
namespace {

using Dims = dnnl::memory::dims;
constexpr auto kF32 = dnnl::memory::data_type::f32;

struct Window {
  Dims kernel, stride, before, after;
  dnnl::algorithm algorithm = dnnl::algorithm::pooling_max;
};

struct Pooling {
  using Forward = dnnl::pooling_forward;
  using Backward = dnnl::pooling_backward;

  Engine& engine;
  dnnl::memory::desc x, y;
  Forward forward_primitive;
  Backward backward_primitive;
  dnnl::memory workspace;  // empty: of an average

  Pooling(const StepContext& context, const Window& w)
      : engine(context.engine), x(image(context.x)), y(image(context.y)) {
    const Forward::primitive_desc forward({dnnl::prop_kind::forward_training, w.algorithm, x, y,
                                           w.stride, w.kernel, w.before, w.after},
                                          engine.engine);
    const Backward::primitive_desc backward(
        {w.algorithm, x, y, w.stride, w.kernel, w.before, w.after}, engine.engine, forward);
    forward_primitive = Forward(forward);
    backward_primitive = Backward(backward);
    if (w.algorithm == dnnl::algorithm::pooling_max)
      workspace = {forward.workspace_desc(), engine.engine};
  }

  static dnnl::memory::desc image(const Extent& e) {
    const auto dim = [](size_t size) { return static_cast<int64_t>(size); };
    return {{dim(e.n), dim(e.c), dim(e.h), dim(e.w)}, kF32, dnnl::memory::format_tag::nhwc};
  }
  dnnl::memory memory(const dnnl::memory::desc& desc, const float* data) const {
    return {desc, engine.engine, const_cast<float*>(data)};
  }
  void run(const dnnl::primitive& primitive, std::unordered_map<int, dnnl::memory> args) {
    if (workspace) args[DNNL_ARG_WORKSPACE] = workspace;
    primitive.execute(engine.stream, args);
    engine.stream.wait();
  }
};

Step make_pool(const StepContext& context, const Window& window) {
  const auto pool = std::make_shared<Pooling>(context, window);  // of both functions
  Step step;
  step.forward = [pool](Inputs in, std::span<float> y, const Run&) {
    pool->run(pool->forward_primitive, {{DNNL_ARG_SRC, pool->memory(pool->x, in[0].data())},
                                        {DNNL_ARG_DST, pool->memory(pool->y, y.data())}});
  };
  step.backward = [pool](Inputs, std::span<const float>, std::span<const float> dy,
                         std::span<const Sink> sinks, const Run&) {
    if (sinks[0].grad.empty()) return;
    Overwriting dx(sinks[0]);
    pool->run(pool->backward_primitive, {{DNNL_ARG_DIFF_DST, pool->memory(pool->y, dy.data())},
                                         {DNNL_ARG_DIFF_SRC, pool->memory(pool->x, dx.data())}});
    dx.finish();
  };
  return step;
}

}  // namespace

Step make_max_pool(const StepContext& context) {
  const auto& p = std::get<MaxPool>(context.node.op);
  return make_pool(context, {{p.kernel_h, p.kernel_w},
                             {p.stride_h, p.stride_w},
                             {p.pad_top, p.pad_left},
                             {p.pad_bottom, p.pad_right},
                             dnnl::algorithm::pooling_max});
}

Step make_avg_pool(const StepContext& context) {
  const auto& p = std::get<AvgPool>(context.node.op);
  const bool global = p.kernel_h == 0;
  const auto dim = [](size_t size) { return static_cast<int64_t>(size); };
  const Dims kernel =
      global ? Dims{dim(context.x.h), dim(context.x.w)} : Dims{p.kernel_h, p.kernel_w};
  return make_pool(context, {kernel,
                             {p.stride_h, p.stride_w},
                             {0, 0},
                             {0, 0},
                             dnnl::algorithm::pooling_avg_include_padding});
}

}  // namespace mpq::convert::train
