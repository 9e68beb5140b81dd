#include "converter/passes/weights.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "converter/parallel.h"
#include "converter/passes/block_sum.h"
#include "converter/passes/linear_algebra.h"

namespace mpq::convert {
namespace {

float lowest(int bits) { return static_cast<float>(-(1 << (bits - 1))); }
float highest(int bits) { return static_cast<float>((1 << (bits - 1)) - 1); }

float nearest_code(float x, int bits) {
  return std::nearbyint(std::clamp(x, lowest(bits), highest(bits)));
}

double rounding_error(std::span<const float> weights, std::span<const float> importance, float scale,
                      int bits) {
  const float lo = lowest(bits), hi = highest(bits);
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23: rounds half to even and vectorises
  return block_sum(weights.size(), [&](size_t i) {
    const float position = std::min(std::max(weights[i] / scale, lo), hi);
    const float error = weights[i] - ((position + kMagic) - kMagic) * scale;
    return error * error * (importance.empty() ? 1.0F : importance[i]);
  });
}

// 16 channels side by side: nearest-plane rounding of w (reordered as R is) from the last column to
// the first. pending[j] holds w_j - scale * code_j of the columns already rounded.
constexpr size_t kLanes = 16;
__attribute__((target_clones("avx512f", "avx2", "default"))) void carry(const float* r, const float* pending,
                                                                        size_t begin, size_t end,
                                                                        float* sum) {
  float lanes[kLanes] = {};
  for (size_t j = begin; j < end; ++j)
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += r[j] * pending[j * kLanes + lane];
  for (size_t lane = 0; lane < kLanes; ++lane) sum[lane] = lanes[lane];
}

}  // namespace

float search_weight_scale(std::span<const float> weights, std::span<const float> importance, int bits) {
  float peak = 0.0F;
  for (const float w : weights) peak = std::max(peak, std::abs(w));
  if (peak == 0.0F) return 1.0F;
  // At the largest candidate the peak is well inside the grid, at the smallest one most is clipped.
  const float widest = 1.1F * peak / std::max(highest(bits), 1.0F);
  const float narrowest = widest * (bits == 8 ? 0.6F : bits == 4 ? 0.3F : 0.12F);
  constexpr int kCoarse = 40, kFine = 10;
  float best = widest;
  double least = rounding_error(weights, importance, widest, bits);
  const auto consider = [&](float scale) {
    const double error = rounding_error(weights, importance, scale, bits);
    if (error < least) {
      least = error;
      best = scale;
    }
  };
  const float step = (widest - narrowest) / kCoarse;
  for (int i = 0; i < kCoarse; ++i) consider(narrowest + step * static_cast<float>(i));
  const float centre = best;
  for (int i = -kFine + 1; i < kFine; ++i)
    consider(centre + step * static_cast<float>(i) / static_cast<float>(kFine));
  return best;
}

void round_weights(std::span<const float> weights, float scale, int bits, std::span<int8_t> codes) {
  for (size_t i = 0; i < weights.size(); ++i)
    codes[i] = static_cast<int8_t>(nearest_code(weights[i] / scale, bits));
}

QuantisedWeights quantise_weights(std::span<const float> weights, size_t channels, int bits) {
  const size_t k = weights.size() / channels;
  QuantisedWeights out{std::vector<float>(channels), std::vector<int8_t>(weights.size())};
  parallel_for(channels, 1, [&](size_t begin, size_t end) {
    for (size_t c = begin; c < end; ++c) {
      out.scale[c] = search_weight_scale(weights.subspan(c * k, k), {}, bits);
      round_weights(weights.subspan(c * k, k), out.scale[c], bits,
                    std::span(out.codes).subspan(c * k, k));
    }
  });
  return out;
}

Result<QuantisedWeights> compensate_weights(std::span<const float> weights, size_t channels, int bits,
                                            const Calibration& calibration,
                                            const CompensationOptions& options) {
  const size_t k = weights.size() / channels;
  const std::vector<float> h = gram(calibration.inputs, calibration.rows, k);
  double mean = 0.0;
  for (size_t i = 0; i < k; ++i) mean += h[i * k + i];
  mean /= static_cast<double>(k);
  const double damping = mean > 0.0 ? options.damping * mean : 1.0;

  // Ascending energy: rounding runs from the last column to the first.
  std::vector<size_t> order(k);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return h[a * k + a] < h[b * k + b]; });
  std::vector<double> factor(k * k);
  parallel_for(k, 16, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      for (size_t j = 0; j < k; ++j)
        factor[i * k + j] = h[order[i] * k + order[j]] + (i == j ? damping : 0.0);
  });
  MPQ_CHECK(cholesky(factor, k));

  // W* = W + refit * (H + damping)^-1 X^T E, in the new order.
  std::vector<float> target(channels * k);
  std::vector<double> fit(k * channels);
  if (options.refit != 0.0) {
    const std::vector<float> g =
        transposed_product(calibration.inputs, calibration.errors, calibration.rows, k, channels);
    for (size_t i = 0; i < k; ++i)
      for (size_t c = 0; c < channels; ++c) fit[i * channels + c] = g[order[i] * channels + c];
    solve_cholesky(factor, k, fit, channels);
  }
  std::vector<float> importance(k);
  for (size_t i = 0; i < k; ++i) importance[i] = static_cast<float>(h[order[i] * k + order[i]] + damping);
  for (size_t c = 0; c < channels; ++c)
    for (size_t i = 0; i < k; ++i)
      target[c * k + i] =
          static_cast<float>(weights[c * k + order[i]] + options.refit * fit[i * channels + c]);

  // Rows divided by their diagonal, so that carrying needs no division.
  std::vector<float> rows(k * k);
  parallel_for(k, 16, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      for (size_t j = i; j < k; ++j) rows[i * k + j] = static_cast<float>(factor[i * k + j] / factor[i * k + i]);
  });
  QuantisedWeights out{std::vector<float>(channels), std::vector<int8_t>(weights.size())};
  parallel_for((channels + kLanes - 1) / kLanes, 1, [&](size_t begin, size_t end) {
    std::vector<float> pending(k * kLanes);
    for (size_t group = begin; group < end; ++group) {
      const size_t first = group * kLanes, lanes = std::min(kLanes, channels - first);
      for (size_t lane = 0; lane < lanes; ++lane)
        out.scale[first + lane] = search_weight_scale(
            std::span(target).subspan((first + lane) * k, k), importance, bits);
      std::fill(pending.begin(), pending.end(), 0.0F);
      for (size_t i = k; i-- > 0;) {
        float sum[kLanes];
        carry(&rows[i * k], pending.data(), i + 1, k, sum);
        for (size_t lane = 0; lane < lanes; ++lane) {
          const size_t c = first + lane;
          const float wanted = target[c * k + i] + sum[lane];
          const float code = nearest_code(wanted / out.scale[c], bits);
          pending[i * kLanes + lane] = target[c * k + i] - code * out.scale[c];
          out.codes[c * k + order[i]] = static_cast<int8_t>(code);
        }
      }
    }
  });
  return out;
}

}  // namespace mpq::convert
