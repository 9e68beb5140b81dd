// What goes over pixels and channels without a product: pooling, addition, codes from floats and
// from images, functions. A thread has eight neighbouring channels of one pixel.
#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/kernels.h"

namespace mpq::cuda {
namespace {

// Which eight channels of which pixel a thread has.
struct Eight {
  uint32_t pixel, channel;
  bool exists;

  MPQ_DEVICE Eight of(uint32_t pixels, uint32_t channels) {
    const uint32_t groups = (channels + 7) / 8, at = block_x() * kElementThreads + thread_index();
    return {at / groups, at % groups * 8, at / groups < pixels};
  }
};

// Calls each(codes of 8 channels) for the pixels of the window of output (n, y, x).
template <typename Each>
MPQ_DEVICE void for_each_in_window(const PoolParams& p, const Eight& at, Each each) {
  const uint32_t image = at.pixel / (p.oh * p.ow), within = at.pixel % (p.oh * p.ow);
  const int32_t y = static_cast<int32_t>(within / p.ow * p.stride_h) - p.pad_top;
  const int32_t x = static_cast<int32_t>(within % p.ow * p.stride_w) - p.pad_left;
  for (uint32_t r = 0; r < p.kernel_h; ++r)
    for (uint32_t s = 0; s < p.kernel_w; ++s) {
      const uint32_t i = static_cast<uint32_t>(y) + r, j = static_cast<uint32_t>(x) + s;
      if (i >= p.h || j >= p.w) continue;
      int32_t codes[8];
      load_codes(p.x, (image * p.h + i) * p.w + j, at.channel, codes);
      each(codes);
    }
}

MPQ_DEVICE void max_pool_eight(const PoolParams& p) {
  const Eight at = Eight::of(p.n * p.oh * p.ow, p.c);
  if (!at.exists) return;
  uint32_t best[8] = {};
  for_each_in_window(p, at, [&](const int32_t(&codes)[8]) {
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) {
      const auto code = static_cast<uint32_t>(codes[i]);
      best[i] = code > best[i] ? code : best[i];
    }
  });
  store_codes(p.y, at.pixel, at.channel, best);
}

MPQ_DEVICE void average_pool_eight(const PoolParams& p) {
  const Eight at = Eight::of(p.n * p.oh * p.ow, p.c);
  if (!at.exists) return;
  int32_t acc[8] = {};
  for_each_in_window(p, at, [&](const int32_t(&codes)[8]) {
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) acc[i] += codes[i] - p.zero_point;
  });
  uint32_t codes[8];
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    const float v = fma(to_float(acc[i]), p.multiplier, p.bias);
    codes[i] = round_clamp(v, p.lo, p.hi);
    const uint32_t image = at.pixel / (p.oh * p.ow), within = at.pixel % (p.oh * p.ow);
    if (p.dense != nullptr && at.channel + i < p.c)
      store(
          p.dense + (static_cast<uint64_t>(image) * p.c + at.channel + i) * (p.oh * p.ow) + within,
          v);
  }
  if (p.dense == nullptr) store_codes(p.y, at.pixel, at.channel, codes);
}

MPQ_DEVICE void add_eight(const AddParams& p) {
  const Eight at = Eight::of(p.pixels, p.c);
  if (!at.exists) return;
  int32_t a[8], b[8];
  load_codes(p.a, at.pixel, at.channel, a);
  load_codes(p.b, at.pixel, at.channel, b);
  uint32_t y[8], second[8];
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    const float v = fma(to_float(a[i] - p.a_zero_point), p.a_scale,
                        fma(to_float(b[i] - p.b_zero_point), p.b_scale, p.bias));
    y[i] = round_clamp(v, p.lo, p.hi);
    second[i] = round_clamp(fma(v, p.second_scale, p.second_bias), p.second_lo, p.second_hi);
  }
  store_codes(p.y, at.pixel, at.channel, y);
  if (p.second.data != nullptr) store_codes(p.second, at.pixel, at.channel, second);
}

// As round_clamp, for limits below 0: NaN gives lo all the same.
MPQ_DEVICE int32_t round_clamp_signed(float v, int32_t lo, int32_t hi) {
  const float low = to_float(lo), high = to_float(hi);
  v = v > low ? v : low;
  v = v < high ? v : high;
  return round_to_int(v);
}

MPQ_DEVICE void quantize_eight(const QuantizeParams& p) {
  const Eight at = Eight::of(p.n * p.h * p.w, p.c);
  if (!at.exists) return;
  const uint32_t image = at.pixel / (p.h * p.w), within = at.pixel % (p.h * p.w);
  const float* x = p.x + image * p.image + within / p.w * p.row + within % p.w * p.pixel;
  uint32_t codes[8] = {};
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    if (at.channel + i >= p.c) continue;
    const float v = div(load_const(x + (at.channel + i) * p.channel), p.scale);
    codes[i] = static_cast<uint32_t>(
        round_clamp_signed(v, p.lo - p.zero_point, p.hi - p.zero_point) + p.zero_point);
  }
  store_codes(p.y, at.pixel, at.channel, codes);
}

MPQ_DEVICE void quantize_image_eight(const ImageParams& p) {
  const uint32_t channels = p.fold == 2 ? 16 : p.c;
  const Eight at = Eight::of(p.n * p.oh * p.ow, channels);
  if (!at.exists) return;
  const uint32_t image = at.pixel / (p.oh * p.ow), within = at.pixel % (p.oh * p.ow);
  // Eight channels are a pixel's, or, folded, four of each of two neighbours in one row.
  const bool folded = p.fold == 2;
  const uint32_t y =
      within / p.ow * p.fold + (folded ? at.channel / 8 : 0) - static_cast<uint32_t>(p.pad_top);
  const uint32_t x = within % p.ow * p.fold - static_cast<uint32_t>(p.pad_left);
  const int64_t first =
      (static_cast<int64_t>(image * p.h + y) * p.w + static_cast<int32_t>(x)) * p.c;
  uint32_t codes[8];
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    const uint32_t neighbour = folded ? i / 4 : 0, c = folded ? i % 4 : at.channel + i;
    codes[i] = static_cast<uint32_t>(p.zero_point);
    if (c >= p.c || y >= p.h || x + neighbour >= p.w) continue;
    const uint8_t pixel = load_const(p.pixels + (first + neighbour * p.c + c));
    codes[i] = load_const(p.table + c * 256 + pixel);
  }
  store_codes(p.y, at.pixel, at.channel, codes);
}

MPQ_DEVICE float activated(Activation activation, float x) {
  if (activation == Activation::kGelu) return kernels::gelu<CudaLanes>(x);
  if (activation == Activation::kGeluTanh) return kernels::gelu_tanh<CudaLanes>(x);
  if (activation == Activation::kTanh) return kernels::tanh_of<CudaLanes>(x);
  return x;
}

MPQ_DEVICE void activate_eight(const ActivateParams& p) {
  const Eight at = Eight::of(p.rows, p.width);
  if (!at.exists) return;
  uint32_t codes[8] = {};
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    if (at.channel + i >= p.width) continue;
    const uint64_t place = static_cast<uint64_t>(at.pixel) * p.width + at.channel + i;
    const float v = fma(activated(p.activation, load_const(p.x + place)), p.scale, p.bias);
    if (p.dense != nullptr)
      store(p.dense + place, v);
    else
      codes[i] = round_clamp(v, p.lo, p.hi);
  }
  if (p.dense == nullptr) store_codes(p.y, at.pixel, at.channel, codes);
}

}  // namespace
}  // namespace mpq::cuda

#define MPQ_ENTRY(name, Params, body)                                            \
  MPQ_KERNEL(mpq::cuda::kElementThreads) name(MPQ_PARAMS(mpq::cuda::Params) p) { \
    mpq::cuda::body(p);                                                          \
  }
MPQ_ENTRY(max_pool, PoolParams, max_pool_eight)
MPQ_ENTRY(average_pool, PoolParams, average_pool_eight)
MPQ_ENTRY(add_codes, AddParams, add_eight)
MPQ_ENTRY(quantize_f32, QuantizeParams, quantize_eight)
MPQ_ENTRY(quantize_image, ImageParams, quantize_image_eight)
MPQ_ENTRY(activate_f32, ActivateParams, activate_eight)
#undef MPQ_ENTRY
