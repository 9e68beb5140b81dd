#include "runtime/ops/dense.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "kernels/conv/packed.h"
#include "runtime/aligned_block.h"
#include "runtime/graph_info.h"
#include "runtime/split.h"
#include "runtime/unpack.h"

namespace mpq::runtime {
namespace {

using format::operand;
using format::TensorId;
using kernels::ConvKernel;
using kernels::ConvShape;
using kernels::Elem;

static_assert(static_cast<int>(format::Activation::kTanh) ==
                  static_cast<int>(kernels::Activation::kTanh),
              "the same values in the same order");

struct DenseStep {
  kernels::ConvArgs args;
  const ConvKernel* kernel = nullptr;
};

void run_dense(const void* args, const kernels::ConvPart& part,
               const kernels::KernelContext& context) {
  const auto& step = *static_cast<const DenseStep*>(args);
  step.kernel->run(step.args, part, context);
}

Elem weight_elem(DType type) {
  return bits_of(type) == 8 ? Elem::s8 : bits_of(type) == 4 ? Elem::s4 : Elem::s2;
}

Elem output_elem(DType type) {
  return type == DType::kF32 ? Elem::f32 : type == DType::kS32 ? Elem::s32 : Elem::u8;
}

kernels::Activation activation_of(const format::Requant& requant) {
  return static_cast<kernels::Activation>(requant.activation);
}

const ConvKernel& choose_conv(const PlanOptions& options, const DenseLayer& layer) {
  if (options.choose_conv) return options.choose_conv(layer);
  return kernels::select_conv(layer.shape, layer.cb, layer.weights, layer.max_activation,
                              options.isa, options.family);
}

// A convolution of 1x1 with stride 1 does not care where rows end: when no tensor has a halo, an
// image is one row, and images of one pixel are one row together. Kernels then have long runs of
// pixels.
void flatten(const Planner& planner, const format::Node& node, ConvShape* shape) {
  if (shape->r * shape->s * shape->stride_h * shape->stride_w != 1) return;
  for (const TensorId id : {node.inputs[0], node.outputs[0],
                            operand(node.inputs, format::kResidual), operand(node.outputs, 1)})
    if (id != format::kNoTensor && !planner.halo(id).empty()) return;
  const uint64_t pixels = uint64_t{shape->oh} * shape->ow;
  if (pixels > std::numeric_limits<int32_t>::max()) return;
  shape->ow = static_cast<uint32_t>(pixels);
  shape->oh = 1;
  if (pixels == 1) std::swap(shape->n, shape->ow);
}

// The epilogue's arrays, one after the other behind the weights, each padded to whole panels with
// 0.
struct Arrays {
  static constexpr size_t kCount = 4;
  TensorId tensors[kCount];  // multiplier, bias, acc_bias, residual_factor; then FixedPanels
  size_t stride = 0;         // bytes from one to the next
  explicit Arrays(const format::Node& node, uint32_t channels)
      : tensors{operand(node.inputs, format::kMultiplier), operand(node.inputs, format::kBias),
                operand(node.inputs, format::kAccBias),
                operand(node.inputs, format::kResidualFactor)},
        stride((size_t{channels} + 63) / 64 * 64 * sizeof(float)) {}
  size_t bytes() const { return kCount * stride + stride / 256 * sizeof(kernels::FixedPanel); }
  template <typename T>
  T* at(std::byte* memory, size_t i) const {
    return reinterpret_cast<T*>(memory + i * stride);
  }
  template <typename T>
  const T* at(const std::byte* memory, size_t i) const {
    return reinterpret_cast<const T*>(memory + i * stride);
  }
};

void copy_arrays(const format::Model& model, const Arrays& arrays, std::byte* destination) {
  std::memset(destination, 0, arrays.bytes());
  for (size_t i = 0; i < Arrays::kCount; ++i) {
    if (arrays.tensors[i] == format::kNoTensor) continue;
    const std::span<const std::byte> data = model.tensors[arrays.tensors[i]].data;
    std::memcpy(destination + i * arrays.stride, data.data(), std::min(data.size(), arrays.stride));
  }
}

// Weights the file already has in this kernel's layout.
std::span<const std::byte> prepacked(const format::Model& model, uint32_t node, const char* layout,
                                     size_t bytes) {
  for (const format::Prepacked& p : model.prepacked)
    if (p.node == node && p.layout == layout && p.data.size() == bytes) return p.data;
  return {};
}

// Whether the fixed-point form of requant/fixed.h can be tried.
bool may_be_fixed(const kernels::Epilogue& e, bool has_residual, bool has_second) {
  return e.out == Elem::u8 && e.lo >= 0 && e.lo < e.hi && e.hi <= 255 && !has_second &&
         e.activation == kernels::Activation::kNone &&
         (!has_residual ||
          (e.residual_shift >= 0 && e.residual_shift <= magnitude_bits(fixed_residual(e))));
}

// Finds it channel by channel; nothing for those that have none. max_sum: of products.
void prove_fixed(const kernels::Epilogue& e, const Arrays& arrays, uint32_t channels,
                 int64_t max_sum, std::byte* memory) {
  const auto* multiplier = arrays.at<float>(memory, 0);
  const auto* bias = arrays.at<float>(memory, 1);
  const auto* acc_bias = arrays.at<int32_t>(memory, 2);
  const auto* factor = arrays.at<int32_t>(memory, 3);
  auto* panels = arrays.at<kernels::FixedPanel>(memory, Arrays::kCount);
  const kernels::FixedCodes codes = fixed_codes(e);
  const kernels::FixedResidual residual = fixed_residual(e);
  const bool has_residual = e.residual_shift >= 0;
  const auto find = [&](uint32_t c) -> kernels::FixedPoint {
    if (has_residual && multiplier[c] != 0.0F &&
        !(is_fixed_residual(factor[c], residual) &&
          may_add_residual(max_sum + std::abs(int64_t{acc_bias[c]}), residual, codes)))
      return {};
    return kernels::fixed_point(multiplier[c], bias[c], codes);
  };
  for (uint32_t begin = 0; begin < channels; begin += 64) {
    kernels::FixedPoint points[64];
    int32_t factors[64] = {};
    for (uint32_t i = 0; i < 64; ++i) {
      const uint32_t c = begin + i;
      points[i] = c < channels ? find(c) : kernels::FixedPoint{0, 1};
      if (has_residual && points[i].multiplier != 0)
        factors[i] = kernels::lane_factor(factor[c], residual);
    }
    kernels::fill_fixed_panel(points, factors, &panels[begin / 64]);
  }
}

// Vectors without that form want residuals that are exact in binary32: codes of at most 8 bits
// times factors of at most 16.
bool may_take_fixed(const kernels::Epilogue& e, size_t channels) {
  return e.residual_shift < 0 ||
         std::all_of(e.residual_factor, e.residual_factor + channels,
                     [](int32_t factor) { return factor >= 0 && factor <= 65535; });
}

WeightsRequest weights_request(uint32_t node, const format::Node& n, const format::Tensor& weights,
                               const ConvShape& shape, uint32_t cb, int32_t max_activation,
                               DenseStep* step) {
  const ConvKernel* const kernel = step->kernel;
  const bool fixed =
      may_be_fixed(step->args.epilogue, operand(n.inputs, format::kResidual) != format::kNoTensor,
                   operand(n.outputs, 1) != format::kNoTensor);
  const Arrays arrays(n, shape.o);
  const size_t packed = kernel->packed_bytes(shape, cb), arrays_at = align_up(packed);
  const size_t products = size_t{shape.c / shape.groups} * shape.r * shape.s;
  const size_t count = shape.o * products;
  const int64_t max_sum = static_cast<int64_t>(products) * max_activation
                          << (bits_of(weights.dtype) - 1);
  WeightsRequest request;
  request.node = node;
  request.layout = kernel->layout;
  request.packed_bytes = packed;
  request.bytes = arrays_at + arrays.bytes();
  request.scratch_bytes = count;
  request.pack = [=, type = weights.dtype, data = weights.data, epilogue = step->args.epilogue](
                     const format::Model& model, std::byte* destination, std::byte* scratch) {
    const auto ready = prepacked(model, node, kernel->layout, packed);
    if (!ready.empty() && kernels::packed_is_safe(kernel->layout, shape, cb, ready.data())) {
      std::memcpy(destination, ready.data(), packed);
    } else {
      auto* codes = reinterpret_cast<int8_t*>(scratch);
      unpack_codes(data, type, count, codes);
      kernel->pack(shape, cb, codes, destination);
    }
    copy_arrays(model, arrays, destination + arrays_at);
    if (fixed) prove_fixed(epilogue, arrays, shape.o, max_sum, destination + arrays_at);
  };
  request.bind = [=](const std::byte* memory) {
    kernels::Epilogue& e = step->args.epilogue;
    const std::byte* array = memory + arrays_at;
    step->args.weights = memory;
    e.multiplier = arrays.at<float>(array, 0);
    e.bias = arrays.at<float>(array, 1);
    e.acc_bias = arrays.at<int32_t>(array, 2);
    e.residual_factor = arrays.at<int32_t>(array, 3);
    const auto* panels = arrays.at<kernels::FixedPanel>(array, Arrays::kCount);
    e.fixed = fixed && may_take_fixed(e, shape.o) ? panels : nullptr;
  };
  return request;
}

}  // namespace

Checked plan_dense(Planner& planner, uint32_t node, ConvShape shape, const format::Requant& requant,
                   ptrdiff_t shift) {
  const format::Node& n = planner.model().nodes[node];
  const TensorId x = n.inputs[format::kX], y = n.outputs[0],
                 residual = operand(n.inputs, format::kResidual);
  const format::Tensor& weights = planner.tensor(n.inputs[format::kWeights]);
  MPQ_CHECK(planner.prepare_read(x, Form::kPlanes));
  if (residual != format::kNoTensor) MPQ_CHECK(planner.prepare_read(residual, Form::kPlanes));

  flatten(planner, n, &shape);
  const uint32_t cb = planner.planes_of(x).cb;
  const ConvKernel& kernel =
      choose_conv(planner.options(), {.node = node,
                                      .shape = shape,
                                      .cb = cb,
                                      .weights = weight_elem(weights.dtype),
                                      .max_activation = max_code(planner.tensor(x).dtype),
                                      .out = output_elem(planner.tensor(y).dtype),
                                      .residual = residual != format::kNoTensor,
                                      .second = operand(n.outputs, 1) != format::kNoTensor,
                                      .activation = activation_of(requant)});

  auto& step = planner.add_step<DenseStep>(node, kernel.name, kernel.isa, run_dense);
  step.kernel = &kernel;
  step.args.shape = shape;
  planner.read(x, &step.args.x, shift);
  kernels::Epilogue& e = step.args.epilogue;
  e.out = output_elem(planner.tensor(y).dtype);
  if (e.out == Elem::u8)
    planner.write(y, &step.args.y);
  else
    planner.write(y, Form::kDense, &step.args.dense);
  e.lo = requant.lo;
  e.hi = requant.hi;
  e.fixed_offset = planner.tensor(y).quant.zero_point;
  e.activation = activation_of(requant);
  e.activation_scale = requant.activation_scale;
  e.activation_bias = requant.activation_bias;
  if (residual != format::kNoTensor) {
    planner.read(residual, &e.residual);
    e.residual_zero_point = planner.tensor(residual).quant.zero_point;
    e.residual_bits = bits_of(planner.tensor(residual).dtype);
    e.residual_scale = requant.residual_scale;
    e.residual_shift = requant.residual_shift;
  }
  if (residual != format::kNoTensor && residual != x && e.out == Elem::u8)
    planner.may_overwrite(y, residual);
  write_second(planner, n, requant, &e);
  planner.add_weights(
      weights_request(node, n, weights, shape, cb, max_code(planner.tensor(x).dtype), &step));

  Step& s = planner.step();
  s.scratch_bytes = kernel.scratch_bytes(shape, cb);
  s.weight_bits = weight_bits(planner.model(), n);
  s.macs = node_macs(planner.model(), n) * planner.dims(y).n;
  const float cost = kernel.cost(shape, cb, planner.options().family);
  Work work = {.macs = static_cast<uint64_t>(static_cast<double>(s.macs) * cost),
               .unit_bytes = planner.dims(x).elements() + planner.dims(y).elements(),
               .panel_bytes = s.weight_bytes};
  kernel.units(shape, &work.units, &work.panels);
  s.parts = split_work(work, planner.options().threads);
  planner.on_resize(
      planner.rows(x),
      [&step, rows = planner.rows(x)](const Live& live) {
        step.args.shape.ow = live.rows(rows);
        uint32_t units = 0, panels = 0;
        step.kernel->units(step.args.shape, &units, &panels);
        return units;
      },
      work);
  return Ok{};
}

}  // namespace mpq::runtime
