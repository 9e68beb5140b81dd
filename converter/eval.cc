// Activations are NHWC inside: oneDNN's convolutions are as fast on it as on blocked layouts, and
// every other operator is then a plain loop without padded channels.

#include "converter/eval.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <dnnl.hpp>
#include <limits>
#include <unordered_map>

#include "converter/parallel.h"

namespace mpq::convert {
namespace {

using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;
constexpr auto kF32 = dnnl::memory::data_type::f32;
constexpr size_t kGrain = size_t{1} << 16;  // elements a thread should have to be worth its start

// The extents of an activation with its batch; matrices have h = w = 1.
struct Extent {
  size_t n = 0, h = 1, w = 1, c = 0;
  size_t elements() const { return n * h * w * c; }
  size_t pixels() const { return n * h * w; }
};

// What a node does at run time. `in` and `out` may be the same buffer when in_place.
struct Step {
  const Node* node = nullptr;
  std::vector<size_t> in;  // buffers
  size_t out = 0;
  Extent x, y;  // of input 0 and the output
  std::function<void(const std::vector<const float*>& in, float* out)> run;
};

void nchw_to_nhwc(const float* from, const Extent& e, float* to) {
  const size_t area = e.h * e.w;
  parallel_for(e.n * area, kGrain / std::max<size_t>(e.c, 1) + 1, [&](size_t begin, size_t end) {
    for (size_t pixel = begin; pixel < end; ++pixel) {
      const float* source = from + pixel / area * area * e.c + pixel % area;
      for (size_t c = 0; c < e.c; ++c) to[pixel * e.c + c] = source[c * area];
    }
  });
}

void nhwc_to_nchw(const float* from, const Extent& e, float* to) {
  const size_t area = e.h * e.w;
  parallel_for(e.n * e.c, kGrain / std::max<size_t>(area, 1) + 1, [&](size_t begin, size_t end) {
    // Blocks of channels keep the reads of one pixel within a cache line.
    for (size_t plane = begin; plane < end;) {
      const size_t image = plane / e.c, c0 = plane % e.c;
      const size_t lanes = std::min({size_t{16}, e.c - c0, end - plane});
      const float* source = from + image * area * e.c + c0;
      float* target = to + plane * area;
      for (size_t p = 0; p < area; ++p)
        for (size_t c = 0; c < lanes; ++c) target[c * area + p] = source[p * e.c + c];
      plane += lanes;
    }
  });
}

template <typename Function>
void map_elements(const float* x, float* y, size_t count, Function function) {
  parallel_for(count, kGrain, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) y[i] = function(x[i]);
  });
}

// Round to nearest, ties to even, for |v| <= 2^22: adding 1.5 * 2^23 leaves no bits for the
// fraction. Unlike nearbyint it is vectorised on every x86.
inline float round_half_even(float v) {
  constexpr float kMagic = 12582912.0F;
  return (v + kMagic) - kMagic;
}

void fake_quant(const QuantSpec& spec, const float* x, float* y, size_t count) {
  const float scale = spec.scale[0], zero = static_cast<float>(spec.zero_point);
  const float lo = static_cast<float>(spec.lo), hi = static_cast<float>(spec.hi);
  // The bounds are integers, so clamping before rounding gives the same code; codes are centred
  // here.
  map_elements(x, y, count, [=](float v) {
    return round_half_even(std::min(std::max(v / scale, lo - zero), hi - zero)) * scale;
  });
}

void batch_norm(const Graph& graph, const Node& node, const Extent& e, const float* x, float* y) {
  const auto constant = [&](size_t i) { return graph.values[node.inputs[i]].data.data(); };
  const double epsilon = std::get<BatchNorm>(node.op).epsilon;
  std::vector<float> factor(e.c), offset(e.c);
  for (size_t c = 0; c < e.c; ++c) {
    const double f = constant(1)[c] / std::sqrt(constant(4)[c] + epsilon);
    factor[c] = static_cast<float>(f);
    offset[c] = static_cast<float>(constant(2)[c] - constant(3)[c] * f);
  }
  parallel_for(e.pixels(), kGrain / e.c + 1, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p)
      for (size_t c = 0; c < e.c; ++c) y[p * e.c + c] = x[p * e.c + c] * factor[c] + offset[c];
  });
}

// Rows of output pixels in parallel; visit(target, source pixel) for each pixel under the window.
template <typename Pool, typename Start, typename Visit, typename Finish>
void pool(const Pool& op, size_t pad_top, size_t pad_left, const Extent& x, const Extent& y,
          const float* in, float* out, Start start, Visit visit, Finish finish) {
  parallel_for(y.n * y.h, kGrain / (y.w * y.c * op.kernel_h * op.kernel_w) + 1,
               [&](size_t begin, size_t end) {
                 for (size_t row = begin; row < end; ++row) {
                   const size_t n = row / y.h, oy = row % y.h;
                   for (size_t ox = 0; ox < y.w; ++ox) {
                     float* target = out + (row * y.w + ox) * y.c;
                     start(target);
                     for (size_t ky = 0; ky < op.kernel_h; ++ky)
                       for (size_t kx = 0; kx < op.kernel_w; ++kx) {
                         const size_t iy = oy * op.stride_h + ky - pad_top,
                                      ix = ox * op.stride_w + kx - pad_left;
                         if (iy < x.h && ix < x.w)  // wrapped around when in the padding
                           visit(target, in + ((n * x.h + iy) * x.w + ix) * x.c);
                       }
                     finish(target);
                   }
                 }
               });
}

void max_pool(const MaxPool& op, const Extent& x, const Extent& y, const float* in, float* out) {
  pool(
      op, op.pad_top, op.pad_left, x, y, in, out,
      [&](float* t) { std::fill(t, t + y.c, -std::numeric_limits<float>::infinity()); },
      [&](float* t, const float* s) {
        for (size_t c = 0; c < y.c; ++c) t[c] = s[c] > t[c] ? s[c] : t[c];
      },
      [](float*) {});
}

void avg_pool(AvgPool op, const Extent& x, const Extent& y, const float* in, float* out) {
  if (op.kernel_h == 0) {
    op.kernel_h = static_cast<uint32_t>(x.h);
    op.kernel_w = static_cast<uint32_t>(x.w);
  }
  const float area = static_cast<float>(op.kernel_h) * static_cast<float>(op.kernel_w);
  pool(
      op, 0, 0, x, y, in, out, [&](float* t) { std::fill(t, t + y.c, 0.0F); },
      [&](float* t, const float* s) {
        for (size_t c = 0; c < y.c; ++c) t[c] += s[c];
      },
      [&](float* t) {
        for (size_t c = 0; c < y.c; ++c) t[c] /= area;
      });
}

}  // namespace

struct Evaluator::Impl {
  Graph graph;  // a copy: steps point into it
  uint32_t batch = 1;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::vector<std::vector<float>> buffers;
  std::vector<Step> steps;
  size_t input_buffer = 0, output_buffer = 0;
  Extent input, output;

  Extent extent(ValueId id) const {
    const Shape& shape = graph.values[id].shape;
    const auto dim = [&](size_t i) { return static_cast<size_t>(shape[i]); };
    if (shape.size() == 4) return {batch * dim(0), dim(2), dim(3), dim(1)};
    return {batch * dim(0), 1, 1, shape.size() > 1 ? dim(1) : 1};
  }

  Checked prepare();
  void assign_buffers();
  void prepare_step(Step* step);
  void prepare_convolution(Step* step);
  void prepare_linear(Step* step);
  template <typename Primitive>
  void bind(Step* step, const typename Primitive::primitive_desc& desc, Tag weights_tag,
            const Dims& weights_dims);
};

namespace {

bool is_elementwise(const Op& op) {
  return std::holds_alternative<Relu>(op) || std::holds_alternative<Clip>(op) ||
         std::holds_alternative<Add>(op) || std::holds_alternative<FakeQuant>(op) ||
         std::holds_alternative<BatchNorm>(op);
}

}  // namespace

// Each value gets a buffer from its producer to its last reader; element-wise operators write over
// an input that dies with them.
void Evaluator::Impl::assign_buffers() {
  std::unordered_map<ValueId, size_t> last_use, buffer_of;
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    for (const ValueId id : activations(graph.nodes[i])) last_use[id] = i;
  last_use[graph.outputs[0]] = graph.nodes.size();

  std::vector<size_t> sizes, free;
  const auto take = [&](size_t size) {
    const auto better = [&](size_t a, size_t b) { return sizes[a] < sizes[b]; };
    auto best = std::max_element(free.begin(), free.end(), better);
    for (auto it = free.begin(); it != free.end(); ++it)  // the smallest that is large enough
      if (sizes[*it] >= size && (sizes[*best] < size || sizes[*it] < sizes[*best])) best = it;
    if (best == free.end()) {
      sizes.push_back(size);
      return sizes.size() - 1;
    }
    const size_t buffer = *best;
    free.erase(best);
    sizes[buffer] = std::max(sizes[buffer], size);
    return buffer;
  };

  input_buffer = buffer_of[graph.inputs[0]] = take(input.elements());
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    Step step{.node = &node, .x = extent(node.inputs[0]), .y = extent(node.output)};
    std::vector<size_t> dying;
    for (const ValueId id : activations(node)) {
      step.in.push_back(buffer_of.at(id));
      if (last_use[id] == i && std::find(dying.begin(), dying.end(), step.in.back()) == dying.end())
        dying.push_back(step.in.back());
    }
    if (is_elementwise(node.op) && !dying.empty()) {
      step.out = dying.front();
      dying.erase(dying.begin());
    } else {
      step.out = take(step.y.elements());
    }
    buffer_of[node.output] = step.out;
    free.insert(free.end(), dying.begin(), dying.end());
    if (last_use.find(node.output) == last_use.end()) free.push_back(step.out);  // nobody reads it
    steps.push_back(std::move(step));
  }
  output_buffer = buffer_of.at(graph.outputs[0]);
  buffers.resize(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) buffers[i].resize(sizes[i]);
}

// Fixes the weights in the layout the primitive wants and makes the step run it.
template <typename Primitive>
void Evaluator::Impl::bind(Step* step, const typename Primitive::primitive_desc& desc,
                           Tag weights_tag, const Dims& weights_dims) {
  const Node& node = *step->node;
  std::vector<float> plain = real_weights(graph, node);
  dnnl::memory user({weights_dims, kF32, weights_tag}, engine, plain.data());
  dnnl::memory weights(desc.weights_desc(), engine);
  dnnl::reorder(user, weights).execute(stream, user, weights);
  stream.wait();

  std::unordered_map<int, dnnl::memory> args;
  args.emplace(DNNL_ARG_WEIGHTS, weights);
  if (node.inputs.size() > 2 && node.inputs[2] != kNoValue)
    args.emplace(DNNL_ARG_BIAS,
                 dnnl::memory(desc.bias_desc(), engine, graph.values[node.inputs[2]].data.data()));
  args.emplace(DNNL_ARG_SRC, dnnl::memory(desc.src_desc(), engine, nullptr));
  args.emplace(DNNL_ARG_DST, dnnl::memory(desc.dst_desc(), engine, nullptr));
  const Primitive primitive(desc);
  step->run = [this, primitive, args](const std::vector<const float*>& in, float* out) mutable {
    args.at(DNNL_ARG_SRC).set_data_handle(const_cast<float*>(in[0]));
    args.at(DNNL_ARG_DST).set_data_handle(out);
    primitive.execute(stream, args);
    stream.wait();
  };
}

void Evaluator::Impl::prepare_convolution(Step* step) {
  using Primitive = dnnl::convolution_forward;
  const Node& node = *step->node;
  const Conv& op = std::get<Conv>(node.op);
  const Shape& w = graph.values[node.inputs[1]].shape;
  const int64_t groups = op.groups;
  const auto dims = [](const Extent& e) {
    return Dims{static_cast<int64_t>(e.n), static_cast<int64_t>(e.c), static_cast<int64_t>(e.h),
                static_cast<int64_t>(e.w)};
  };
  const Dims weights_dims =
      groups == 1 ? Dims{w[0], w[1], w[2], w[3]} : Dims{groups, w[0] / groups, w[1], w[2], w[3]};
  const dnnl::memory::desc x(dims(step->x), kF32, Tag::nhwc), y(dims(step->y), kF32, Tag::nhwc);
  const dnnl::memory::desc weights(weights_dims, kF32, Tag::any);
  const Dims strides{op.stride_h, op.stride_w}, dilates{op.dilation_h - 1, op.dilation_w - 1};
  const Dims before{op.pad_top, op.pad_left}, after{op.pad_bottom, op.pad_right};
  const bool has_bias = node.inputs.size() > 2 && node.inputs[2] != kNoValue;
  const dnnl::memory::desc bias =
      has_bias ? dnnl::memory::desc({w[0]}, kF32, Tag::a) : dnnl::memory::desc();
  const Primitive::desc desc(dnnl::prop_kind::forward_inference,
                             dnnl::algorithm::convolution_direct, x, weights, bias, y, strides,
                             dilates, before, after);
  bind<Primitive>(step, Primitive::primitive_desc(desc, engine),
                  groups == 1 ? Tag::oihw : Tag::goihw, weights_dims);
}

void Evaluator::Impl::prepare_linear(Step* step) {
  using Primitive = dnnl::inner_product_forward;
  const Node& node = *step->node;
  const Shape& w = graph.values[node.inputs[1]].shape;
  const auto rows = static_cast<int64_t>(step->x.n);
  const dnnl::memory::desc x({rows, w[1]}, kF32, Tag::nc), y({rows, w[0]}, kF32, Tag::nc);
  const dnnl::memory::desc weights({w[0], w[1]}, kF32, Tag::any);
  const bool has_bias = node.inputs.size() > 2 && node.inputs[2] != kNoValue;
  const dnnl::memory::desc bias =
      has_bias ? dnnl::memory::desc({w[0]}, kF32, Tag::a) : dnnl::memory::desc();
  const Primitive::desc desc(dnnl::prop_kind::forward_inference, x, weights, bias, y);
  bind<Primitive>(step, Primitive::primitive_desc(desc, engine), Tag::oi, {w[0], w[1]});
}

namespace {

using Inputs = std::vector<const float*>;

// The loops of the operators that are not oneDNN's.
struct LoopOf {
  const Graph& graph;
  const Node& node;
  const Extent x, y;
  using Run = std::function<void(const Inputs&, float*)>;

  Run operator()(const Relu&) const {
    return [e = y](const Inputs& in, float* out) {
      map_elements(in[0], out, e.elements(), [](float v) { return v > 0.0F ? v : 0.0F; });
    };
  }
  Run operator()(const Clip& op) const {
    return [op, e = y](const Inputs& in, float* out) {
      map_elements(in[0], out, e.elements(),
                   [&](float v) { return std::min(std::max(v, op.lo), op.hi); });
    };
  }
  Run operator()(const Add&) const {
    return [e = y](const Inputs& in, float* out) {
      parallel_for(e.elements(), kGrain, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) out[i] = in[0][i] + in[1][i];
      });
    };
  }
  Run operator()(const BatchNorm&) const {
    return [this_graph = &graph, this_node = &node, e = y](const Inputs& in, float* out) {
      batch_norm(*this_graph, *this_node, e, in[0], out);
    };
  }
  Run operator()(const MaxPool& op) const {
    return [op, from = x, to = y](const Inputs& in, float* out) {
      max_pool(op, from, to, in[0], out);
    };
  }
  Run operator()(const AvgPool& op) const {
    return [op, from = x, to = y](const Inputs& in, float* out) {
      avg_pool(op, from, to, in[0], out);
    };
  }
  Run operator()(const Flatten&) const {
    return [e = x](const Inputs& in, float* out) { nhwc_to_nchw(in[0], e, out); };
  }
  Run operator()(const FakeQuant& op) const {
    return [op, e = y](const Inputs& in, float* out) {
      fake_quant(op.spec, in[0], out, e.elements());
    };
  }
  template <typename Other>  // a primitive's, or of sequences: prepare() has refused those
  Run operator()(const Other&) const {
    return {};
  }
};

}  // namespace

void Evaluator::Impl::prepare_step(Step* step) {
  if (std::holds_alternative<Conv>(step->node->op)) return prepare_convolution(step);
  if (std::holds_alternative<Linear>(step->node->op)) return prepare_linear(step);
  step->run = std::visit(LoopOf{graph, *step->node, step->x, step->y}, step->node->op);
}

Checked Evaluator::Impl::prepare() {
  MPQ_CHECK(check(graph));
  if (graph.sequence_length != 0)
    return Error{Status::kUnsupported, "sequences are evaluated by evaluate_sequences"};
  if (graph.inputs.size() != 1)
    return Error{Status::kUnsupported, "evaluation needs exactly one graph input"};
  if (batch == 0) return Error{Status::kInvalidArgument, "the batch is 0"};
  for (const Node& node : graph.nodes)
    for (const ValueId id : activations(node)) {
      const Value& value = graph.values[id];
      if (value.is_constant)
        return Error{Status::kUnsupported, "node '" + node.name + "' reads the constant '" +
                                               value.name + "' as activation"};
      if (value.shape.size() != 4 && value.shape.size() != 2)
        return Error{Status::kUnsupported, "value '" + value.name + "' has shape " +
                                               to_string(value.shape) + ", expected rank 2 or 4"};
    }
  input = extent(graph.inputs[0]);
  output = extent(graph.outputs[0]);
  assign_buffers();
  for (Step& step : steps) prepare_step(&step);
  return Ok{};
}

Evaluator::Evaluator() = default;
Evaluator::Evaluator(Evaluator&&) noexcept = default;
Evaluator& Evaluator::operator=(Evaluator&&) noexcept = default;
Evaluator::~Evaluator() = default;

Result<Evaluator> Evaluator::create(const Graph& graph, uint32_t batch) {
  try {
    Evaluator evaluator;
    evaluator.impl_ = std::make_unique<Impl>();
    evaluator.impl_->graph = graph;
    evaluator.impl_->batch = batch;
    MPQ_CHECK(evaluator.impl_->prepare());
    return evaluator;
  } catch (const dnnl::error& error) {
    return Error{Status::kInternal, std::string("oneDNN: ") + error.what()};
  } catch (const std::bad_alloc&) {
    return Error{Status::kOutOfMemory,
                 "evaluation at batch " + std::to_string(batch) + " does not fit in memory"};
  }
}

Result<std::vector<float>> Evaluator::run(std::span<const float> input, const Observer& observer) {
  Impl& impl = *impl_;
  if (input.size() != impl.input.elements())
    return Error{Status::kInvalidArgument, "the input has " + std::to_string(input.size()) +
                                               " floats, expected " +
                                               std::to_string(impl.input.elements())};
  try {
    nchw_to_nhwc(input.data(), impl.input, impl.buffers[impl.input_buffer].data());
    std::vector<float> observed;
    for (Step& step : impl.steps) {
      Inputs in;
      for (const size_t buffer : step.in) in.push_back(impl.buffers[buffer].data());
      step.run(in, impl.buffers[step.out].data());
      if (!observer) continue;
      observed.resize(step.y.elements());
      nhwc_to_nchw(impl.buffers[step.out].data(), step.y, observed.data());
      if (!observer(*step.node, observed)) return std::vector<float>{};
    }
    std::vector<float> result(impl.output.elements());
    nhwc_to_nchw(impl.buffers[impl.output_buffer].data(), impl.output, result.data());
    return result;
  } catch (const dnnl::error& error) {
    return Error{Status::kInternal, std::string("oneDNN: ") + error.what()};
  }
}

}  // namespace mpq::convert
