#include "tests/cuda/conv_problem.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/weights.h"

namespace mpq::test {

using kernels::Elem;
using kernels::Planes;

namespace {

using Bytes = std::vector<uint8_t>;

// NHWC, a code a byte, as the reference sees it: one block of all channels.
Planes planes_of(Bytes* codes, uint32_t h, uint32_t w, uint32_t c) {
  return {codes->data(), ptrdiff_t{h} * w * c, 0, ptrdiff_t{w} * c, c};
}

Bytes random_codes(size_t count, uint32_t bits, bool corners, Rng& rng) {
  Bytes codes(count);
  for (uint8_t& code : codes)
    code = static_cast<uint8_t>(corners ? (1U << bits) - 1 : rng.below(1U << bits));
  return codes;
}

Bytes padded(const CudaConvCase& c, const Bytes& x) {
  const uint32_t h = c.h + c.pad_top + c.pad_bottom, w = c.w + c.pad_left + c.pad_right;
  Bytes out(size_t{c.n} * h * w * c.c, c.zero_point);
  for (uint32_t n = 0; n < c.n; ++n)
    for (uint32_t y = 0; y < c.h; ++y)
      std::copy_n(&x[(size_t{n} * c.h + y) * c.w * c.c], size_t{c.w} * c.c,
                  &out[((size_t{n} * h + y + c.pad_top) * w + c.pad_left) * c.c]);
  return out;
}

cuda::Activation gpu_activation(kernels::Activation a) {
  return static_cast<cuda::Activation>(static_cast<uint32_t>(a));
}

}  // namespace

CudaConvCase random_epilogue(const CudaConvCase& shape, const cuda::ConvKernel& kernel, Rng& rng) {
  CudaConvCase c = shape;
  c.zero_point = rng.chance(3) ? static_cast<uint8_t>(rng.below(1U << kernel.a_bits)) : 0;
  c.out = rng.pick({Elem::u8, Elem::u8, Elem::u8, Elem::u8, Elem::f32, Elem::s32});
  c.out_bits = rng.pick({8U, 4U, 2U});
  c.acc_bias = !rng.chance(3);
  c.corners = rng.chance(5);
  c.ties = rng.chance(5);
  c.near_ties = rng.chance(5);
  c.huge = rng.chance(8);
  if (c.out == Elem::s32) return c;
  c.residual = rng.pick({CudaResidual::kNone, CudaResidual::kFloat, CudaResidual::kInteger});
  c.residual_bits = rng.pick({8U, 4U, 2U});
  c.second_bits = rng.chance(2) ? rng.pick({8U, 4U, 2U}) : 0;
  if (kernel.gelu)
    c.activation = rng.pick({kernels::Activation::kGelu, kernels::Activation::kGeluTanh});
  return c;
}

void make_conv_problem(const cuda::ConvKernel& kernel, const CudaConvCase& c, Rng& rng,
                       CudaProblem* problem) {
  const uint32_t h = c.h + c.pad_top + c.pad_bottom, w = c.w + c.pad_left + c.pad_right;
  kernels::ConvArgs a;
  a.shape = {c.n,
             c.c,
             (h - (c.r - 1) * c.dilation_h - 1) / c.stride_h + 1,
             (w - (c.s - 1) * c.dilation_w - 1) / c.stride_w + 1,
             c.o,
             c.r,
             c.s,
             c.stride_h,
             c.stride_w,
             c.dilation_h,
             c.dilation_w,
             1};
  const kernels::ConvShape& s = a.shape;
  const size_t m = size_t{s.n} * s.oh * s.ow, outputs = m * s.o;
  const Bytes x = random_codes(size_t{c.n} * c.h * c.w * c.c, kernel.a_bits, c.corners, rng);
  Bytes x_padded = padded(c, x);
  std::vector<int8_t> weights(size_t{c.o} * c.c * c.r * c.s);
  const int32_t lowest = -(1 << (kernel.w_bits - 1));
  for (int8_t& weight : weights)
    weight = static_cast<int8_t>(c.corners ? lowest : rng.between(lowest, -1 - lowest));
  a.x = planes_of(&x_padded, h, w, c.c);
  a.weights = weights.data();

  // The sums, to choose scales for.
  const kernels::ConvKernel& reference = kernels::conv_kernels().back();
  const auto run_reference = [&] {
    uint32_t units = 0, panels = 0;
    reference.units(s, &units, &panels);
    reference.run(a, {0, units, 0, panels}, {});
  };
  std::vector<int32_t> sums(outputs);
  a.epilogue.out = Elem::s32;
  a.dense = sums.data();
  run_reference();

  const size_t channels = (size_t{c.o} + 31) / 32 * 32;
  std::vector<int32_t> acc_bias(channels), factor(channels);
  std::vector<float> multiplier(channels), bias(channels);
  const int32_t hi = static_cast<int32_t>(1U << c.out_bits) - 1;
  for (uint32_t o = 0; o < c.o; ++o) {
    int32_t low = INT32_MAX, high = INT32_MIN;
    for (size_t i = 0; i < m; ++i) {
      low = std::min(low, sums[i * c.o + o]);
      high = std::max(high, sums[i * c.o + o]);
    }
    acc_bias[o] = c.acc_bias ? rng.between(-100000, 100000) : 0;
    const auto middle = static_cast<float>(low / 2 + high / 2 + acc_bias[o]);
    multiplier[o] =
        static_cast<float>(hi) / static_cast<float>(high - low + 1) * rng.uniform(0.5F, 2.0F);
    if (c.ties) multiplier[o] = 0.5F;
    if (c.activation != kernels::Activation::kNone) multiplier[o] *= 5.0F / static_cast<float>(hi);
    bias[o] =
        c.ties ? std::floor(-middle * 0.5F) : static_cast<float>(hi) / 2 - middle * multiplier[o];
    if (c.activation != kernels::Activation::kNone) bias[o] = -middle * multiplier[o];
    if (c.near_ties) {
      const auto some = static_cast<float>(sums[o] + acc_bias[o]);
      multiplier[o] = rng.uniform(1000.0F, 4000.0F) / (some == 0 ? 1.0F : some);
      bias[o] = static_cast<float>(rng.between(0, hi)) + 0.5F - some * multiplier[o];
    }
    if (c.huge) {
      multiplier[o] = rng.pick({1e38F, -1e38F, 3e38F, 1e30F});
      bias[o] = rng.pick({0.0F, 1e38F, -3e38F});
    }
  }

  kernels::Epilogue& e = a.epilogue;
  e.out = c.out;
  e.acc_bias = c.acc_bias ? acc_bias.data() : nullptr;
  e.multiplier = multiplier.data();
  e.bias = bias.data();
  e.lo = rng.chance(3) ? 1 : 0;
  e.hi = hi;
  Bytes y(outputs), second(outputs);
  Bytes residual = random_codes(outputs, c.residual_bits, false, rng);
  if (c.residual != CudaResidual::kNone) {
    e.residual = planes_of(&residual, s.oh, s.ow, s.o);
    e.residual_zero_point = rng.pick({0, 1, 8, 128});
    if (c.residual == CudaResidual::kFloat) {
      e.residual_scale = rng.uniform(-1.0F, 2.0F);
    } else {
      e.residual_shift = rng.pick({0, 1, 2, 7, 15, 16, 24, 31});
      const int32_t bound = 1 << std::min(e.residual_shift + 3, 30);
      for (uint32_t o = 0; o < c.o; ++o) factor[o] = rng.between(-bound, bound);
      e.residual_factor = factor.data();
    }
  }
  if (c.second_bits != 0) {
    e.second = planes_of(&second, s.oh, s.ow, s.o);
    e.second_scale = rng.uniform(0.02F, 1.5F);
    e.second_bias = rng.chance(2) ? 0.0F : rng.uniform(-4.0F, 4.0F);
    e.second_lo = rng.chance(2) ? 0 : 2;
    e.second_hi = static_cast<int32_t>(1U << c.second_bits) - 1;
  }
  e.activation = c.activation;
  if (c.activation != kernels::Activation::kNone) {
    e.activation_scale = static_cast<float>(hi) / 3.0F;
    e.activation_bias = rng.uniform(0.0F, 4.0F);
  }
  a.y = planes_of(&y, s.oh, s.ow, s.o);
  std::vector<float> floats(outputs);
  a.dense = c.out == Elem::s32 ? static_cast<void*>(sums.data()) : floats.data();
  run_reference();

  // The same for the GPU.
  cuda::ConvParams p;
  const cuda::Codes gpu_x = problem->upload_codes(x, c.c, kernel.a_bits);
  p.x = gpu_x.data;
  p.x_pitch = gpu_x.pitch;
  p.n = c.n;
  p.h = c.h;
  p.w = c.w;
  p.oh = s.oh;
  p.ow = s.ow;
  p.o = c.o;
  p.r = c.r;
  p.s = c.s;
  p.stride_h = c.stride_h;
  p.stride_w = c.stride_w;
  p.dilation_h = c.dilation_h;
  p.dilation_w = c.dilation_w;
  p.pad_top = static_cast<int32_t>(c.pad_top);
  p.pad_left = static_cast<int32_t>(c.pad_left);
  p.padding_bytes = c.zero_point != 0 ? 16 : 0;
  // Where the code of real 0 is 0, nobody may read it.
  p.padding = problem->device.upload(c.zero_point == 0
                                         ? Bytes(16, 0xFF)
                                         : pack_pixels(Bytes(128 / kernel.a_bits, c.zero_point),
                                                       128 / kernel.a_bits, kernel.a_bits));
  const cuda::WeightsShape packing = {c.o, c.c, c.r, c.s, p.x_pitch, kernel.a_bits, kernel.w_bits};
  Bytes packed(cuda::weight_bytes(packing));
  cuda::pack_weights(packing, weights.data(), packed.data());
  p.weights = problem->device.upload(packed);
  p.k_steps = cuda::k_steps(packing);

  cuda::Epilogue& g = p.epilogue;
  g.acc_bias = c.acc_bias ? problem->device.upload(acc_bias) : nullptr;
  g.multiplier = problem->device.upload(multiplier);
  g.bias = problem->device.upload(bias);
  g.lo = e.lo;
  g.hi = e.hi;
  g.out = c.out == Elem::u8    ? cuda::Output::kCodes
          : c.out == Elem::f32 ? cuda::Output::kFloat
                               : cuda::Output::kSums;
  if (c.out == Elem::u8) g.y = problem->expect_codes("y", y, c.o, c.out_bits);
  if (c.out == Elem::f32) g.dense = problem->expect("dense", floats);
  if (c.out == Elem::s32) g.dense = problem->expect("sums", sums);
  if (c.residual != CudaResidual::kNone)
    g.residual = problem->upload_codes(residual, c.o, c.residual_bits);
  g.residual_zero_point = e.residual_zero_point;
  g.residual_scale = e.residual_scale;
  g.residual_shift = e.residual_shift;
  g.residual_factor =
      c.residual == CudaResidual::kInteger ? problem->device.upload(factor) : nullptr;
  if (c.second_bits != 0) g.second = problem->expect_codes("second", second, c.o, c.second_bits);
  g.second_scale = e.second_scale;
  g.second_bias = e.second_bias;
  g.second_lo = e.second_lo;
  g.second_hi = e.second_hi;
  g.activation = gpu_activation(c.activation);
  g.activation_scale = e.activation_scale;
  g.activation_bias = e.activation_bias;

  p.splits = c.splits;
  const cuda::Grid grid = cuda::grid_of(kernel, p);
  problem->launch = {kernel.name, nullptr, nullptr, grid.x, grid.y, grid.z, kernel.threads, 0};
  problem->shared_bytes = kernel.shared_bytes;
  problem->shared_bytes_sm75 = kernel.shared_bytes_sm75;
  if (c.splits > 1) {
    const size_t tiles = size_t{grid.x} * grid.y;
    p.partial = problem->expect("partial sums", std::vector<int32_t>(tiles * kernel.tile_sums), 0);
    p.tickets = problem->expect("tickets", std::vector<uint32_t>(tiles), 0);
  }
  problem->set_params(p);
  const auto number = [](auto value) { return std::to_string(value) + " "; };
  problem->text = std::string(kernel.name) + ": n " + number(c.n) + "h " + number(c.h) + "w " +
                  number(c.w) + "c " + number(c.c) + "o " + number(c.o) + "r " + number(c.r) +
                  "s " + number(c.s) + "stride " + number(c.stride_h) + number(c.stride_w) +
                  "dilation " + number(c.dilation_h) + number(c.dilation_w) + "pad " +
                  number(c.pad_top) + number(c.pad_left) + "zero point " + number(c.zero_point) +
                  "splits " + number(c.splits) + "out " + number(static_cast<int>(c.out)) +
                  number(c.out_bits) + "second " + number(c.second_bits) + "residual " +
                  number(static_cast<int>(c.residual)) + number(c.residual_bits) + "activation " +
                  number(static_cast<int>(c.activation));
}

}  // namespace mpq::test
