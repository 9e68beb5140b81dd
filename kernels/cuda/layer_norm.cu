// Layer normalisation (kernels/norm/norm.h has the formula). Its sums have 16 lanes by definition,
// so a row is the work of half a warp: thread i has elements i, i + 16, ... and goes over them
// three times, for the mean, the variance and the result. Rows of up to 768 elements stay in
// registers between; of longer ones it reads again what it needs again.
#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/sum16.h"

namespace mpq::cuda {
namespace {

struct NormRow {
  const LayerNormParams& p;
  uint64_t first;  // element of the row

  MPQ_MEMBER float value(uint32_t i) const {
    const float x = load(p.x + first + i);
    return p.residual != nullptr ? add(x, load_const(p.residual + first + i)) : x;
  }
};

// Codes of neighbouring lanes, one a lane, into their byte. (warp)
MPQ_DEVICE void store_code(const Codes& to, uint32_t row, uint32_t channel, uint32_t code,
                           bool exists) {
  uint32_t byte = code;
  for (uint32_t i = 1; i < 8 / to.bits; ++i) byte |= shuffle_down16(code, i) << (i * to.bits);
  if (!exists || channel * to.bits % 8 != 0) return;
  store(static_cast<uint8_t*>(to.data) + static_cast<uint64_t>(row) * to.pitch +
            channel * to.bits / 8,
        static_cast<uint8_t>(byte));
}

constexpr uint32_t kKept = 48;  // elements of a thread

template <uint32_t kept>  // 0: none, for any width
MPQ_DEVICE void layer_norm_row(const LayerNormParams& p) {
  const uint32_t lane = thread_index() % 16;
  const uint32_t row = (block_x() * kLayerNormThreads + thread_index()) / 16;
  const bool exists = row < p.tokens;  // the other half of the warp may have a row
  const NormRow x = {p, static_cast<uint64_t>(exists ? row : 0) * p.width};
  const float size = to_float(static_cast<int32_t>(p.width));

  float values[kept + 1] = {};
  const auto value = [&](uint32_t j) { return kept != 0 ? values[j] : x.value(16 * j + lane); };
  // Calls each(j) for the groups of 16 elements.
  const auto for_each_group = [&](auto each) {
    constexpr uint32_t kEnd = kept != 0 ? kept : ~0U;
#pragma unroll
    for (uint32_t j = 0; j < kEnd; ++j) {
      if (16 * j >= p.width) break;
      each(j);
    }
  };
  if constexpr (kept != 0)
    for_each_group([&](uint32_t j) {
      if (16 * j + lane < p.width) values[j] = x.value(16 * j + lane);
    });

  float sum = 0.0F;
  for_each_group([&](uint32_t j) {
    if (16 * j + lane < p.width) sum = add(sum, value(j));
  });
  const float mean = div(fold_lanes(sum), size);

  float squares = 0.0F;
  for_each_group([&](uint32_t j) {
    if (16 * j + lane >= p.width) return;
    const float d = sub(value(j), mean);
    squares = fma(d, d, squares);
  });
  const float scale = div(1.0F, sqrt(add(div(fold_lanes(squares), size), p.epsilon)));

  for_each_group([&](uint32_t j) {
    const uint32_t i = 16 * j + lane;
    const bool present = exists && i < p.width;
    uint32_t code = 0;
    if (present) {
      const float d = mul(sub(value(j), mean), scale);
      const float y = fma(d, load_const(p.gamma + i), load_const(p.beta + i));
      store(p.y + x.first + i, y);
      if (p.second.data != nullptr) {
        const float v = p.second_gamma != nullptr
                            ? fma(d, load_const(p.second_gamma + i), load_const(p.second_beta + i))
                            : fma(y, p.second_scale, p.second_bias);
        code = round_clamp(v, p.second_lo, p.second_hi);
      }
    }
    if (p.second.data != nullptr) store_code(p.second, row, i, code, exists);
  });
}

}  // namespace
}  // namespace mpq::cuda

MPQ_KERNEL(mpq::cuda::kLayerNormThreads) layer_norm(MPQ_PARAMS(mpq::cuda::LayerNormParams) p) {
  if (p.width <= 16 * mpq::cuda::kKept)
    mpq::cuda::layer_norm_row<mpq::cuda::kKept>(p);
  else
    mpq::cuda::layer_norm_row<0>(p);
}
