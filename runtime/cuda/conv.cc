// Convolution and matrix product on a GPU: which kernel, its weights and its epilogue.
#include <vector>

#include "kernels/cuda/choose.h"
#include "kernels/cuda/weights.h"
#include "runtime/cuda/pixels.h"
#include "runtime/cuda/planner.h"
#include "runtime/graph_info.h"
#include "runtime/unpack.h"

namespace mpq::runtime {
namespace {

using format::operand;
using format::TensorId;

static_assert(static_cast<int>(format::Activation::kTanh) ==
                  static_cast<int>(cuda::Activation::kTanh),
              "the same values in the same order");

// A node as a convolution, its input as it lies in memory.
struct Geometry {
  uint32_t n = 1, h = 1, w = 1, c = 0;  // of x
  uint32_t oh = 1, ow = 1, o = 0, r = 1, s = 1;
  format::Conv2dAttrs attrs;
  bool folded = false;
};

Geometry geometry_of(const CudaPlanner& planner, const format::Node& n) {
  const Dims &x = planner.dims(n.inputs[format::kX]), &y = planner.dims(n.outputs[0]);
  const Shape& weights = planner.tensor(n.inputs[format::kWeights]).shape;
  Geometry g = {
      .n = x.n, .h = x.h, .w = x.w, .c = x.c, .oh = y.h, .ow = y.w, .o = y.c, .attrs = {}};
  if (n.op() != format::OpCode::kConv2d) return g;
  g.attrs = std::get<format::Conv2dAttrs>(n.attrs);
  g.r = static_cast<uint32_t>(weights[2]);
  g.s = static_cast<uint32_t>(weights[3]);
  return g;
}

// The geometry that is left when 2 x 2 pixels of x have become one and its padding is in memory.
Geometry folded(const CudaTensor& x, Geometry g) {
  g.h = x.folded_h;
  g.w = x.folded_w;
  g.c = 16;
  g.r = (g.r + 1) / 2;
  g.s = (g.s + 1) / 2;
  g.attrs.stride_h = g.attrs.stride_w = 1;
  g.attrs.pad_top = g.attrs.pad_left = 0;
  g.folded = true;
  return g;
}

// What chooses the launch: the geometry, the steps of k.
cuda::ConvParams params_of(const Geometry& g, const cuda::WeightsShape& packing) {
  cuda::ConvParams p;
  p.x_pitch = packing.x_pitch;
  p.n = g.n;
  p.h = g.h;
  p.w = g.w;
  p.oh = g.oh;
  p.ow = g.ow;
  p.o = g.o;
  p.r = g.r;
  p.s = g.s;
  p.stride_h = g.attrs.stride_h;
  p.stride_w = g.attrs.stride_w;
  p.dilation_h = g.attrs.dilation_h;
  p.dilation_w = g.attrs.dilation_w;
  p.pad_top = static_cast<int32_t>(g.attrs.pad_top);
  p.pad_left = static_cast<int32_t>(g.attrs.pad_left);
  p.k_steps = cuda::k_steps(packing);
  return p;
}

cuda::Output output_of(DType type) {
  return type == DType::kF32   ? cuda::Output::kFloat
         : type == DType::kS32 ? cuda::Output::kSums
                               : cuda::Output::kCodes;
}

std::string widths(uint32_t a_bits, uint32_t w_bits) {
  std::string text = "u";  // g++ 12 warns of "u" + std::string
  return text.append(std::to_string(a_bits)).append(" x s").append(std::to_string(w_bits));
}

void add_weights(CudaPlanner& planner, const format::Node& n, const Geometry& whole,
                 const cuda::WeightsShape& packing, cuda::ConvParams* p) {
  const format::Tensor& weights = planner.tensor(n.inputs[format::kWeights]);
  const bool fold = packing.c != whole.c;
  planner.constant(cuda::weight_bytes(packing), &p->weights, [=, &weights](std::byte* to) {
    std::vector<int8_t> codes(size_t{whole.o} * whole.c * whole.r * whole.s);
    unpack_codes(weights.data, weights.dtype, codes.size(), codes.data());
    if (fold) {
      std::vector<int8_t> canonical(size_t{packing.o} * packing.c * packing.r * packing.s);
      cuda::fold_weights(whole.o, whole.c, whole.r, whole.s, codes.data(), canonical.data());
      codes.swap(canonical);
    }
    cuda::pack_weights(packing, codes.data(), to);
  });
}

// The 16 bytes of a pixel outside the image.
void add_padding(CudaPlanner& planner, const format::Tensor& x, cuda::ConvParams* p) {
  const auto bits = static_cast<uint32_t>(bits_of(x.dtype));
  const auto code = static_cast<uint32_t>(x.quant.zero_point);
  p->padding_bytes = code != 0 ? 16 : 0;
  planner.constant(16, &p->padding, [=](std::byte* to) {
    for (uint32_t bit = 0; bit < 128; bit += bits)
      to[bit / 8] |= static_cast<std::byte>(code << bit % 8);
  });
}

void add_epilogue(CudaPlanner& planner, const format::Node& n, const format::Requant& requant,
                  cuda::Epilogue* e) {
  const size_t channels = (size_t{planner.dims(n.outputs[0]).c} + 31) / 32 * 32;
  planner.constant(n.inputs[format::kMultiplier], &e->multiplier, channels);
  planner.constant(n.inputs[format::kBias], &e->bias, channels);
  if (operand(n.inputs, format::kAccBias) != format::kNoTensor)
    planner.constant(n.inputs[format::kAccBias], &e->acc_bias, channels);
  e->lo = requant.lo;
  e->hi = requant.hi;
  if (const TensorId id = operand(n.inputs, format::kResidual); id != format::kNoTensor) {
    planner.read(id, &e->residual);
    e->residual_zero_point = planner.tensor(id).quant.zero_point;
    e->residual_scale = requant.residual_scale;
    e->residual_shift = requant.residual_shift;
    if (requant.residual_shift >= 0)
      planner.constant(n.inputs[format::kResidualFactor], &e->residual_factor, channels);
  }
  write_second(planner, n, requant, e);
}

}  // namespace

Checked plan_cuda_dense(CudaPlanner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const format::Requant& requant = *format::requant_of(n.attrs);
  const TensorId x = n.inputs[format::kX], y = n.outputs[0];
  const format::Tensor& in = planner.tensor(x);
  const format::Tensor& out = planner.tensor(y);
  const auto activation = static_cast<cuda::Activation>(requant.activation);
  const Geometry whole = geometry_of(planner, n);
  if (whole.attrs.groups != 1)
    return cuda_unsupported(n, std::to_string(whole.attrs.groups) + " groups");
  const Geometry g =
      planner.placed(x).form == CudaForm::kFolded ? folded(planner.placed(x), whole) : whole;

  const cuda::WeightsShape packing = {
      .o = g.o,
      .c = g.c,
      .r = g.r,
      .s = g.s,
      .x_pitch = planner.placed(x).codes.pitch,
      .a_bits = static_cast<uint32_t>(bits_of(in.dtype)),
      .w_bits = static_cast<uint32_t>(bits_of(planner.tensor(n.inputs[format::kWeights]).dtype))};
  // Sums are taken times the factor of weight_shift: as if weights had 8 bits (kernels/cuda).
  const uint64_t k = uint64_t{g.c} * g.r * g.s;
  if (k * static_cast<uint64_t>(max_code(in.dtype)) * 128 >= uint64_t{1} << 31)
    return cuda_unsupported(n, "sums of " + std::to_string(k) + " products");

  // A function that no kernel has in its epilogue runs over floats, in a launch of its own.
  cuda::ConvParams params = params_of(g, packing);
  const auto choose = [&](cuda::Activation in_epilogue) {
    params.epilogue.activation = in_epilogue;
    return cuda::choose_conv({planner.options().arch, planner.options().processors}, packing.a_bits,
                             packing.w_bits, params);
  };
  const bool gelu =
      activation == cuda::Activation::kGelu || activation == cuda::Activation::kGeluTanh;
  cuda::ConvChoice choice = choose(gelu ? activation : cuda::Activation::kNone);
  const bool apart = activation != cuda::Activation::kNone && (!gelu || choice.kernel == nullptr);
  if (apart) choice = choose(cuda::Activation::kNone);
  if (choice.kernel == nullptr)
    return cuda_unsupported(n, "no product " + widths(packing.a_bits, packing.w_bits));
  if (apart && operand(n.outputs, 1) != format::kNoTensor)
    return cuda_unsupported(
        n, "two outputs after a function of " + widths(packing.a_bits, packing.w_bits));

  auto& p = planner.add_conv_launch(
      node, *choice.kernel,
      [r = planner.rows(y)](cuda::ConvParams& q, const Live& live) { q.n = live.rows(r); });
  p = params;
  planner.read(x, &p.x);
  add_weights(planner, n, whole, packing, &p);
  add_padding(planner, in, &p);
  add_epilogue(planner, n, requant, &p.epilogue);
  p.splits = choice.splits;
  if (p.splits > 1) {
    const cuda::Grid grid = cuda::grid_of(*choice.kernel, p);
    const size_t tiles = size_t{grid.x} * grid.y;
    planner.use_partial_sums(tiles, tiles * choice.kernel->tile_sums * sizeof(int32_t), &p);
  }
  Step& s = planner.step();
  s.weight_bits = packing.w_bits;
  s.macs = node_macs(planner.model(), n) * planner.dims(y).n;

  cuda::Epilogue& e = p.epilogue;
  if (!apart) {
    e.activation_scale = requant.activation_scale;
    e.activation_bias = requant.activation_bias;
    e.out = output_of(out.dtype);
    if (e.out == cuda::Output::kCodes)
      planner.write(y, &e.y);
    else
      planner.write(y, &e.dense);
    return Ok{};
  }
  const uint64_t m = uint64_t{g.n} * g.oh * g.ow;
  const uint32_t floats = planner.add_buffer(m * g.o * sizeof(float));
  e.out = cuda::Output::kFloat;
  planner.access(floats, true, &e.dense);
  auto& a = planner.add_launch<cuda::ActivateParams>(
      node, "activate_f32",
      [r = planner.rows(y), pixels = g.oh * g.ow](cuda::ActivateParams& q, const Live& live) {
        q.rows = live.rows(r) * pixels;
      });
  planner.access(floats, false, &a.x);
  a.rows = static_cast<uint32_t>(m);
  a.width = g.o;
  a.activation = activation;
  a.scale = requant.activation_scale;
  a.bias = requant.activation_bias;
  a.lo = requant.lo;
  a.hi = requant.hi;
  if (is_code(out.dtype))
    planner.write(y, &a.y);
  else
    planner.write(y, &a.dense);
  return Ok{};
}

}  // namespace mpq::runtime
