// Convolution by oneDNN, activations with channels last, weights reordered to what its primitives
// want in every run (they change in every run). Of a tape in bfloat16, what is multiplied is
// rounded to that; sums and results are binary32.
#include <cstring>
#include <memory>

#include "converter/train/loops.h"
#include "converter/train/rounded_product.h"

namespace mpq::convert::train {
namespace {

using Dims = dnnl::memory::dims;
using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
using Type = dnnl::memory::data_type;
constexpr Type kF32 = Type::f32;

Dims dims_of(const Extent& e) {
  const auto dim = [](size_t size) { return static_cast<int64_t>(size); };
  return {dim(e.n), dim(e.c), dim(e.h), dim(e.w)};
}
Desc image(const Extent& e, Type type, Tag tag = Tag::nhwc) { return {dims_of(e), type, tag}; }

struct Convolution {
  using Forward = dnnl::convolution_forward;
  using Data = dnnl::convolution_backward_data;
  using Weights = dnnl::convolution_backward_weights;

  Engine& engine;
  Desc x, y, plain, bias;              // binary32, as given
  Desc x_factor, y_factor;             // as multiplied
  dnnl::memory rounded_x, rounded_dy;  // when that differs
  std::vector<float> rounded_weights;
  Forward::primitive_desc forward_desc;
  Data::primitive_desc data_desc;
  Weights::primitive_desc weights_desc;
  Forward forward_primitive;
  Data data_primitive;
  Weights weights_primitive;
  dnnl::memory forward_weights, data_weights, weights_gradient;
  // What the gradient of weights reads instead, because oneDNN 2.6 writes past its buffers: with
  // AVX-512 and an odd number of images where threads share them (an image of 0 makes it even),
  // with AVX2 and strided 1 x 1 filters whose channels are not whole vectors (channels first).
  dnnl::memory safe_x, safe_dy;

  explicit Convolution(const StepContext& context)
      : engine(context.engine), x(image(context.x, kF32)), y(image(context.y, kF32)) {
    const Type type = engine.bfloat16 && !engine.widened ? Type::bf16 : kF32;
    x_factor = image(context.x, type);
    y_factor = image(context.y, type);
    const auto& op = std::get<Conv>(context.node.op);
    const Shape& w = context.shape(1);
    const int64_t groups = op.groups;
    const Dims dims =
        groups == 1 ? Dims{w[0], w[1], w[2], w[3]} : Dims{groups, w[0] / groups, w[1], w[2], w[3]};
    plain = {dims, kF32, groups == 1 ? Tag::oihw : Tag::goihw};
    if (context.has(2)) bias = {{w[0]}, kF32, Tag::a};
    const Desc any(dims, type, Tag::any), any_gradient(dims, kF32, Tag::any);
    const Dims strides{op.stride_h, op.stride_w}, dilates{op.dilation_h - 1, op.dilation_w - 1};
    const Dims before{op.pad_top, op.pad_left}, after{op.pad_bottom, op.pad_right};
    constexpr auto kAlgorithm = dnnl::algorithm::convolution_direct;
    const dnnl::engine& cpu = engine.engine;
    forward_desc = {{dnnl::prop_kind::forward_training, kAlgorithm, x_factor, any, bias, y, strides,
                     dilates, before, after},
                    cpu};
    data_desc = {
        {kAlgorithm, x, any, y_factor, strides, dilates, before, after}, cpu, forward_desc};
    constexpr size_t kVector = 8;
    const bool odd = context.x.n % 2 != 0, narrow = w[2] * w[3] == 1 &&
                                                    op.stride_h * op.stride_w != 1 &&
                                                    context.x.c % kVector != 0;
    const Tag tag = narrow ? Tag::nchw : Tag::nhwc;
    const Desc x_safe = image(even(context.x), type, tag),
               y_safe = image(even(context.y), type, tag);
    const Forward::primitive_desc safe_desc = {
        {dnnl::prop_kind::forward_training, kAlgorithm, x_safe, any, bias,
         image(even(context.y), kF32, tag), strides, dilates, before, after},
        cpu};
    weights_desc = {
        {kAlgorithm, x_safe, any_gradient, bias, y_safe, strides, dilates, before, after},
        cpu,
        safe_desc};
    if (odd || narrow) {
      safe_x = zeros(x_safe);
      safe_dy = zeros(y_safe);
    }
    forward_primitive = Forward(forward_desc);
    data_primitive = Data(data_desc);
    weights_primitive = Weights(weights_desc);
    forward_weights = {forward_desc.weights_desc(), cpu};
    data_weights = {data_desc.weights_desc(), cpu};
    weights_gradient = {weights_desc.diff_weights_desc(), cpu};
    if (engine.bfloat16) {
      rounded_x = {x_factor, cpu};
      rounded_dy = {y_factor, cpu};
    }
  }

  static Extent even(Extent e) {
    e.n += e.n % 2;
    return e;
  }
  dnnl::memory zeros(const Desc& desc) const {
    dnnl::memory all(desc, engine.engine);
    std::memset(all.get_data_handle(), 0, desc.get_size());
    return all;
  }
  // The same numbers, and an image of 0 where that makes their number even.
  dnnl::memory safe(const dnnl::memory& from, const dnnl::memory& to) const {
    if (!to) return from;
    const Dims dims = from.get_desc().dims();
    const Desc part = to.get_desc().submemory_desc(dims, Dims(dims.size(), 0));
    reorder(from, {part, engine.engine, to.get_data_handle()});
    return to;
  }

  dnnl::memory memory(const Desc& desc, const float* data) const {
    return {desc, engine.engine, const_cast<float*>(data)};
  }
  void reorder(dnnl::memory from, dnnl::memory to) const {
    dnnl::reorder(from, to).execute(engine.stream, from, to);
  }

  // A tensor as it is multiplied: itself, or rounded into `to`.
  dnnl::memory factor(const dnnl::memory& from, const dnnl::memory& to) const {
    if (!engine.bfloat16) return from;
    if (engine.widened)
      round_to_bfloat16({static_cast<const float*>(from.get_data_handle()),
                         from.get_desc().get_size() / sizeof(float)},
                        static_cast<float*>(to.get_data_handle()));
    else
      reorder(from, to);
    return to;
  }

  // For a reorder to what is multiplied: as given, or as forward() has rounded them.
  dnnl::memory weights(std::span<const float> w) const {
    return memory(plain, engine.widened ? rounded_weights.data() : w.data());
  }

  void forward(Inputs in, std::span<float> out) {
    if (engine.widened) {
      rounded_weights.resize(in[1].size());
      round_to_bfloat16(in[1], rounded_weights.data());
    }
    reorder(weights(in[1]), forward_weights);
    std::unordered_map<int, dnnl::memory> args = {
        {DNNL_ARG_SRC, factor(memory(x, in[0].data()), rounded_x)},
        {DNNL_ARG_WEIGHTS, forward_weights},
        {DNNL_ARG_DST, memory(y, out.data())}};
    if (in.size() > 2 && !in[2].empty()) args[DNNL_ARG_BIAS] = memory(bias, in[2].data());
    forward_primitive.execute(engine.stream, args);
    engine.stream.wait();
  }

  void backward(Inputs in, std::span<const float> dy, std::span<const Sink> sinks) {
    const dnnl::memory out = factor(memory(y, dy.data()), rounded_dy);
    if (!sinks[0].grad.empty()) {
      reorder(weights(in[1]), data_weights);
      Overwriting dx(sinks[0]);
      data_primitive.execute(engine.stream, {{DNNL_ARG_DIFF_DST, out},
                                             {DNNL_ARG_WEIGHTS, data_weights},
                                             {DNNL_ARG_DIFF_SRC, memory(x, dx.data())}});
      engine.stream.wait();
      dx.finish();
    }
    const bool biased = sinks.size() > 2 && !in[2].empty();
    if (sinks[1].grad.empty() && !(biased && !sinks[2].grad.empty())) return;
    std::unordered_map<int, dnnl::memory> args = {
        {DNNL_ARG_SRC, safe(engine.bfloat16 ? rounded_x : memory(x, in[0].data()), safe_x)},
        {DNNL_ARG_DIFF_DST, safe(out, safe_dy)},
        {DNNL_ARG_DIFF_WEIGHTS, weights_gradient}};
    std::vector<float> bias_gradient(biased ? in[2].size() : 0);
    if (biased) args[DNNL_ARG_DIFF_BIAS] = memory(bias, bias_gradient.data());
    weights_primitive.execute(engine.stream, args);
    engine.stream.wait();
    if (!sinks[1].grad.empty()) {
      Overwriting dw(sinks[1]);
      reorder(weights_gradient, memory(plain, dw.data()));
      engine.stream.wait();
      dw.finish();
    }
    if (biased) give(sinks[2], [&](size_t i) { return bias_gradient[i]; });
  }
};

}  // namespace

Step make_conv(const StepContext& context) {
  const auto convolution = std::make_shared<Convolution>(context);  // of both functions
  Step step;
  step.forward = [convolution](Inputs in, std::span<float> y, const Run&) {
    convolution->forward(in, y);
  };
  step.backward = [convolution](Inputs in, std::span<const float>, std::span<const float> dy,
                                std::span<const Sink> sinks,
                                const Run&) { convolution->backward(in, dy, sinks); };
  return step;
}

}  // namespace mpq::convert::train
