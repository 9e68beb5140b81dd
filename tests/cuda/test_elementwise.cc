#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/cuda/weights.h"
#include "kernels/eltwise/eltwise.h"
#include "kernels/math/map.h"
#include "kernels/pool/pool.h"
#include "kernels/quantize/quantize.h"
#include "kernels/requant/requant.h"
#include "tests/cuda/problem.h"
#include "tests/support/rng.h"

namespace mpq::test {
namespace {

using Bytes = std::vector<uint8_t>;
using kernels::Planes;

Bytes random_codes(size_t count, uint32_t bits, Rng& rng) {
  Bytes codes(count);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(rng.below(1U << bits));
  return codes;
}

// NHWC, a code a byte, as one block of all channels.
Planes planes_of(Bytes* codes, uint32_t h, uint32_t w, uint32_t c) {
  return {codes->data(), ptrdiff_t{h} * w * c, 0, ptrdiff_t{w} * c, c};
}

int32_t largest(uint32_t bits) { return static_cast<int32_t>(1U << bits) - 1; }

void require_pool(kernels::PoolKind kind, Rng& rng) {
  kernels::PoolArgs a;
  kernels::PoolShape& s = a.shape;
  s.n = 1 + rng.below(3);
  s.c = 1 + rng.below(70);
  s.kernel_h = 1 + rng.below(4);
  s.kernel_w = 1 + rng.below(4);
  s.h = s.kernel_h + rng.below(8);
  s.w = s.kernel_w + rng.below(8);
  s.stride_h = 1 + rng.below(3);
  s.stride_w = 1 + rng.below(3);
  s.pad_top = rng.below(s.kernel_h);
  s.pad_left = rng.below(s.kernel_w);
  s.oh = (s.h + s.pad_top - s.kernel_h) / s.stride_h + 1 + rng.below(2);
  s.ow = (s.w + s.pad_left - s.kernel_w) / s.stride_w + 1;
  const uint32_t bits = rng.pick({8U, 4U, 2U});
  const uint32_t y_bits = kind == kernels::PoolKind::kMax ? bits : rng.pick({8U, 4U, 2U});
  Bytes x = random_codes(size_t{s.n} * s.h * s.w * s.c, bits, rng);
  Bytes y(size_t{s.n} * s.oh * s.ow * s.c);
  std::vector<float> dense(y.size());
  a.x = planes_of(&x, s.h, s.w, s.c);
  a.y = planes_of(&y, s.oh, s.ow, s.c);
  const bool floats = kind == kernels::PoolKind::kAverage && rng.chance(3);
  a.out = floats ? kernels::Elem::f32 : kernels::Elem::u8;
  a.dense = dense.data();
  a.zero_point = rng.pick({0, 3});
  a.multiplier = rng.uniform(0.01F, 0.5F);
  a.bias = rng.uniform(-1.0F, 4.0F);
  a.lo = rng.pick({0, 1});
  a.hi = largest(y_bits);
  const auto& reference = [&]() -> const kernels::PoolKernel& {
    for (const auto& k : kernels::pool_kernels())
      if (k.kind == kind && k.isa == kernels::kIsaScalar) return k;
    return kernels::pool_kernels().back();
  }();
  reference.run(a, {0, kernels::pool_units(s, a.x.cb)});

  CudaProblem problem;
  cuda::PoolParams p = {s.n,  s.c,        s.h,        s.w,        s.oh,
                        s.ow, s.kernel_h, s.kernel_w, s.stride_h, s.stride_w};
  p.pad_top = static_cast<int32_t>(s.pad_top);
  p.pad_left = static_cast<int32_t>(s.pad_left);
  p.x = problem.upload_codes(x, s.c, bits);
  if (floats)
    p.dense = problem.expect("dense", dense);
  else
    p.y = problem.expect_codes("y", y, s.c, y_bits);
  p.zero_point = a.zero_point;
  p.multiplier = a.multiplier;
  p.bias = a.bias;
  p.lo = a.lo;
  p.hi = a.hi;
  problem.launch_other(kind == kernels::PoolKind::kMax ? "max_pool" : "average_pool", p);
  require_everywhere(problem);
}

TEST_CASE("CUDA pooling gives the reference's bytes") {
  Rng rng(test_seed());
  for (uint32_t i = 0; i < test_cases(16); ++i) require_pool(kernels::PoolKind::kMax, rng);
  for (uint32_t i = 0; i < test_cases(16); ++i) require_pool(kernels::PoolKind::kAverage, rng);
}

TEST_CASE("CUDA addition gives the reference's bytes") {
  Rng rng(test_seed() + 1);
  for (uint32_t i = 0; i < test_cases(12); ++i) {
    const uint32_t pixels = 1 + rng.below(40), c = 1 + rng.below(100);
    const uint32_t bits = rng.pick({8U, 4U, 2U}), b_bits = rng.pick({8U, 4U}),
                   y_bits = rng.pick({8U, 4U, 2U});
    Bytes a = random_codes(size_t{pixels} * c, bits, rng), b = random_codes(a.size(), b_bits, rng);
    Bytes y(a.size()), second(a.size());
    kernels::AddArgs args;
    args.shape = {1, c, 1, pixels};
    args.a = planes_of(&a, 1, pixels, c);
    args.b = planes_of(&b, 1, pixels, c);
    args.y = planes_of(&y, 1, pixels, c);
    if (rng.chance(2)) args.second = planes_of(&second, 1, pixels, c);
    args.a_zero_point = rng.pick({0, 2, 128});
    args.b_zero_point = rng.pick({0, 8});
    args.a_scale = rng.uniform(-1, 1);
    args.b_scale = rng.uniform(-1, 1);
    args.bias = rng.uniform(0, 9);
    args.hi = largest(y_bits);
    args.second_scale = rng.uniform(0, 1);
    args.second_bias = rng.uniform(0, 3);
    args.second_hi = 15;
    kernels::add_kernels().back().run(args, {0, kernels::add_units(args.shape, c)});

    CudaProblem problem;
    cuda::AddParams p;
    p.pixels = pixels;
    p.c = c;
    p.a = problem.upload_codes(a, c, bits);
    p.b = problem.upload_codes(b, c, b_bits);
    p.y = problem.expect_codes("y", y, c, y_bits);
    if (args.second.data != nullptr) p.second = problem.expect_codes("second", second, c, 4);
    p.a_zero_point = args.a_zero_point;
    p.b_zero_point = args.b_zero_point;
    p.a_scale = args.a_scale;
    p.b_scale = args.b_scale;
    p.bias = args.bias;
    p.hi = args.hi;
    p.second_scale = args.second_scale;
    p.second_bias = args.second_bias;
    p.second_hi = args.second_hi;
    problem.launch_other("add_codes", p);
    require_everywhere(problem);
  }
}

TEST_CASE("CUDA quantisation of floats gives the reference's bytes, of NaN and infinity too") {
  Rng rng(test_seed() + 2);
  for (uint32_t i = 0; i < test_cases(12); ++i) {
    kernels::QuantizeArgs a;
    a.shape = {1 + rng.below(2), 1 + rng.below(40), 1 + rng.below(5), 1 + rng.below(9)};
    const kernels::CodesShape& s = a.shape;
    a.strides = kernels::nchw(s.c, s.h, s.w);
    std::vector<float> x(size_t{s.n} * s.c * s.h * s.w);
    for (float& v : x) {
      v = rng.chance(4) ? static_cast<float>(rng.between(-40, 40)) * 0.5F : rng.uniform(-40, 300);
      if (rng.chance(20))
        v = rng.pick({std::numeric_limits<float>::quiet_NaN(), 1e38F, -1e38F,
                      std::numeric_limits<float>::infinity()});
    }
    const uint32_t bits = rng.pick({8U, 4U, 2U});
    Bytes y(x.size());
    a.x = x.data();
    a.y = planes_of(&y, s.h, s.w, s.c);
    a.scale = rng.pick({1.0F, 0.1F, 3.0F, 1e-38F});
    a.zero_point = rng.between(0, largest(bits));
    a.hi = largest(bits);
    kernels::quantize_kernels().back().run(a, {0, kernels::codes_units(s, s.c)});

    CudaProblem problem;
    cuda::QuantizeParams p = {s.n, s.c, s.h, s.w};
    p.x = problem.device.upload(x);
    p.image = a.strides.image;
    p.channel = a.strides.channel;
    p.row = a.strides.row;
    p.pixel = a.strides.pixel;
    p.y = problem.expect_codes("y", y, s.c, bits);
    p.scale = a.scale;
    p.zero_point = a.zero_point;
    p.hi = a.hi;
    problem.launch_other("quantize_f32", p);
    require_everywhere(problem);
  }
}

// The code of pixel (y, x) of a padded image.
uint32_t image_code(const cuda::ImageParams& p, const Bytes& pixels, const Bytes& table, uint32_t n,
                    int64_t y, int64_t x, uint32_t c) {
  if (c >= p.c || y < 0 || x < 0 || y >= int64_t{p.h} || x >= int64_t{p.w})
    return static_cast<uint32_t>(p.zero_point);
  const auto at = static_cast<size_t>(((n * p.h + y) * p.w + x) * p.c + c);
  return table[c * 256 + pixels[at]];
}

TEST_CASE("CUDA images become codes by table, with padding, folded for stride 2 or not") {
  Rng rng(test_seed() + 3);
  for (uint32_t i = 0; i < test_cases(12); ++i) {
    cuda::ImageParams p;
    p.fold = 1 + rng.below(2);
    p.n = 1 + rng.below(2);
    p.c = 1 + rng.below(4);
    p.h = 1 + rng.below(9);
    p.w = 1 + rng.below(9);
    p.pad_top = static_cast<int32_t>(rng.below(4));
    p.pad_left = static_cast<int32_t>(rng.below(4));
    p.oh = 1 + rng.below(8);
    p.ow = 1 + rng.below(8);
    p.zero_point = static_cast<int32_t>(rng.below(256));
    const Bytes pixels = random_codes(size_t{p.n} * p.h * p.w * p.c, 8, rng),
                table = random_codes(size_t{p.c} * 256, 8, rng);
    const uint32_t channels = p.fold == 2 ? 16 : p.c;
    Bytes y;
    for (uint32_t n = 0; n < p.n; ++n)
      for (uint32_t row = 0; row < p.oh; ++row)
        for (uint32_t column = 0; column < p.ow; ++column)
          for (uint32_t channel = 0; channel < channels; ++channel) {
            const uint32_t place = p.fold == 2 ? channel / 4 : 0;
            y.push_back(static_cast<uint8_t>(
                image_code(p, pixels, table, n, int64_t{row} * p.fold + place / 2 - p.pad_top,
                           int64_t{column} * p.fold + place % 2 - p.pad_left,
                           p.fold == 2 ? channel % 4 : channel)));
          }
    CudaProblem problem;
    p.pixels = problem.device.upload(pixels);
    p.table = problem.device.upload(table);
    p.y = problem.expect_codes("y", y, channels, 8);
    problem.launch_other("quantize_image", p);
    require_everywhere(problem);
  }
}

TEST_CASE("folded weights over a folded image are the convolution of stride 2") {
  Rng rng(test_seed() + 4);
  for (const uint32_t side : {3U, 7U}) {
    const uint32_t o = 3, c = 3, h = 9, w = 11, pad = side / 2;
    const uint32_t oh = (h + 2 * pad - side) / 2 + 1, ow = (w + 2 * pad - side) / 2 + 1;
    const uint32_t folded_side = (side + 1) / 2;
    std::vector<int8_t> weights(size_t{o} * c * side * side),
        folded(size_t{o} * 16 * folded_side * folded_side);
    for (int8_t& weight : weights) weight = static_cast<int8_t>(rng.between(-128, 127));
    cuda::fold_weights(o, c, side, side, weights.data(), folded.data());
    const Bytes image = random_codes(size_t{h} * w * c, 8, rng);
    const auto pixel = [&](uint32_t y, uint32_t x, uint32_t channel) {  // of the padded image
      const uint32_t i = y - pad, j = x - pad;
      return i < h && j < w && channel < c ? int32_t{image[(i * w + j) * c + channel]} : 7;
    };
    for (uint32_t k = 0; k < o; ++k)
      for (uint32_t y = 0; y < oh; ++y)
        for (uint32_t x = 0; x < ow; ++x) {
          int32_t plain = 0, sum = 0;
          for (uint32_t r = 0; r < side; ++r)
            for (uint32_t s = 0; s < side; ++s)
              for (uint32_t i = 0; i < c; ++i)
                plain +=
                    pixel(2 * y + r, 2 * x + s, i) * weights[((k * c + i) * side + r) * side + s];
          for (uint32_t r = 0; r < folded_side; ++r)
            for (uint32_t s = 0; s < folded_side; ++s)
              for (uint32_t i = 0; i < 16; ++i)
                sum += pixel(2 * (y + r) + i / 8, 2 * (x + s) + i / 4 % 2, i % 4) *
                       folded[((k * 16 + i) * folded_side + r) * folded_side + s];
          REQUIRE(sum == plain);
        }
  }
}

TEST_CASE("CUDA functions give the reference's bits") {
  Rng rng(test_seed() + 5);
  const kernels::Function functions[] = {kernels::Function::kGelu, kernels::Function::kGeluTanh,
                                         kernels::Function::kTanh};
  for (uint32_t i = 0; i < test_cases(6); ++i) {
    const uint32_t which = i % 3, rows = 1 + rng.below(20), width = 1 + rng.below(90);
    std::vector<float> x(size_t{rows} * width), y(x.size());
    for (float& v : x) v = rng.uniform(-8, 8);
    kernels::map_kernels().back().run[static_cast<int>(functions[which])](x.data(), y.data(),
                                                                          x.size());
    const float scale = rng.uniform(1, 9), bias = rng.uniform(0, 9);
    Bytes codes(x.size());
    for (size_t j = 0; j < y.size(); ++j) {
      y[j] = std::fmaf(y[j], scale, bias);
      codes[j] = static_cast<uint8_t>(kernels::round_clamp(y[j], 0, 15));
    }
    for (const bool dense : {false, true}) {
      CudaProblem problem;
      cuda::ActivateParams p;
      p.rows = rows;
      p.width = width;
      p.x = problem.device.upload(x);
      p.activation = static_cast<cuda::Activation>(which + 1);
      p.scale = scale;
      p.bias = bias;
      p.hi = 15;
      if (dense)
        p.dense = problem.expect("dense", y);
      else
        p.y = problem.expect_codes("y", codes, width, 4);
      problem.launch_other("activate_f32", p);
      require_everywhere(problem);
    }
  }
}

}  // namespace
}  // namespace mpq::test
