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

QuantisedWeights weights_of(size_t channels, size_t k) {
  return {std::vector<float>(channels), std::vector<int8_t>(channels * k),
          std::vector<float>(channels * k)};
}

double rounding_error(std::span<const float> weights, std::span<const float> importance,
                      float scale, int bits) {
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
__attribute__((target_clones("avx512f", "avx2", "default"))) void carry(const float* r,
                                                                        const float* pending,
                                                                        size_t begin, size_t end,
                                                                        float* sum) {
  float lanes[kLanes] = {};
  for (size_t j = begin; j < end; ++j)
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += r[j] * pending[j * kLanes + lane];
  for (size_t lane = 0; lane < kLanes; ++lane) sum[lane] = lanes[lane];
}

// h = X^T X [k][k] and g = X^T E [k][channels] over rows [begin, end).
struct Normal {
  std::vector<float> h, g;
};
Normal normal_equations(const Calibration& calibration, size_t begin, size_t end, size_t k,
                        size_t channels, bool with_errors) {
  const std::span<const float> x = calibration.inputs.subspan(begin * k, (end - begin) * k);
  Normal normal{gram(x, end - begin, k), {}};
  if (with_errors)
    normal.g = transposed_product(
        x, calibration.errors.subspan(begin * channels, (end - begin) * channels), end - begin, k,
        channels);
  return normal;
}

double mean_diagonal(const std::vector<float>& h, size_t k) {
  double sum = 0.0;
  for (size_t i = 0; i < k; ++i) sum += h[i * k + i];
  return sum > 0.0 ? sum / static_cast<double>(k) : 1.0;
}

// (h + damping)^-1 g, [k][channels].
Result<std::vector<double>> solve_ridge(const Normal& normal, size_t k, size_t channels,
                                        double damping) {
  std::vector<double> factor(normal.h.begin(), normal.h.end());
  for (size_t i = 0; i < k; ++i) factor[i * k + i] += damping;
  MPQ_CHECK(cholesky(factor, k));
  std::vector<double> x(normal.g.begin(), normal.g.end());
  solve_cholesky(factor, k, x, channels);
  return x;
}

struct Fit {
  std::vector<double> weights;  // what to add to W, [k][channels]
  double share = 0.0;
};
struct Choice {
  double damping = 0.0, share = 0.0;
};

// The damping, of four, whose fit of one part of the rows explains most of the rest, and the share
// of that fit that explains most. Share s of a fit D takes 2 s <D, g> - s^2 <D, h D> off the error.
Result<Choice> choose_damping(const Normal& fitted, const Normal& rest, size_t k, size_t channels,
                              double least) {
  Choice best;
  double best_gain = 0.0;
  // From much to little: wide layers, whose solutions cost most, want much and stop here early.
  for (const double factor : {1000.0, 100.0, 10.0, 1.0}) {
    MPQ_TRY(const std::vector<double> fit, solve_ridge(fitted, k, channels, least * factor));
    const std::vector<float> d(fit.begin(), fit.end());
    const std::vector<float> hd = transposed_product(rest.h, d, k, k, channels);
    double linear = 0.0, square = 0.0;
    for (size_t i = 0; i < d.size(); ++i) {
      linear += double{d[i]} * double{rest.g[i]};
      square += double{d[i]} * double{hd[i]};
    }
    if (!(linear > 0.0) || !(square > 0.0)) continue;
    const double share = std::min(linear / square, 1.0);
    const double gain = 2.0 * share * linear - share * share * square;
    if (gain < best_gain) break;  // less damping only takes away from here on
    best_gain = gain;
    best = {least * factor, share};
  }
  return best;
}

// Scales by search, then nearest-plane rounding of w [channels][k] along the factor of h + damping.
Result<QuantisedWeights> round_compensated(const std::vector<float>& w, size_t channels, int bits,
                                           const std::vector<float>& h, double damping) {
  const size_t k = w.size() / channels;
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

  std::vector<float> importance(k), target(w.size()), rows(k * k);
  for (size_t i = 0; i < k; ++i)
    importance[i] = static_cast<float>(h[order[i] * k + order[i]] + damping);
  for (size_t c = 0; c < channels; ++c)
    for (size_t i = 0; i < k; ++i) target[c * k + i] = w[c * k + order[i]];
  // Rows divided by their diagonal, so that carrying needs no division.
  parallel_for(k, 16, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      for (size_t j = i; j < k; ++j)
        rows[i * k + j] = static_cast<float>(factor[i * k + j] / factor[i * k + i]);
  });
  QuantisedWeights out = weights_of(channels, k);
  parallel_for((channels + kLanes - 1) / kLanes, 1, [&](size_t begin, size_t end) {
    std::vector<float> pending(k * kLanes);
    for (size_t group = begin; group < end; ++group) {
      const size_t first = group * kLanes, lanes = std::min(kLanes, channels - first);
      for (size_t lane = 0; lane < lanes; ++lane)
        out.scale[first + lane] =
            search_weight_scale(std::span(target).subspan((first + lane) * k, k), importance, bits);
      std::fill(pending.begin(), pending.end(), 0.0F);
      for (size_t i = k; i-- > 0;) {
        float sum[kLanes];
        carry(&rows[i * k], pending.data(), i + 1, k, sum);
        for (size_t lane = 0; lane < lanes; ++lane) {
          const size_t c = first + lane;
          const float position = (target[c * k + i] + sum[lane]) / out.scale[c];
          const float code = nearest_code(position, bits);
          pending[i * kLanes + lane] = target[c * k + i] - code * out.scale[c];
          out.positions[c * k + order[i]] = position;
          out.codes[c * k + order[i]] = static_cast<int8_t>(code);
        }
      }
    }
  });
  return out;
}

}  // namespace

float search_weight_scale(std::span<const float> weights, std::span<const float> importance,
                          int bits) {
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
  QuantisedWeights out = weights_of(channels, k);
  parallel_for(channels, 1, [&](size_t begin, size_t end) {
    for (size_t c = begin; c < end; ++c) {
      out.scale[c] = search_weight_scale(weights.subspan(c * k, k), {}, bits);
      round_weights(weights.subspan(c * k, k), out.scale[c], bits,
                    std::span(out.codes).subspan(c * k, k));
      for (size_t i = c * k; i < (c + 1) * k; ++i) out.positions[i] = weights[i] / out.scale[c];
    }
  });
  return out;
}

Result<QuantisedWeights> compensate_weights(std::span<const float> weights, size_t channels,
                                            int bits, const Calibration& calibration,
                                            const CompensationOptions& options) {
  const size_t k = weights.size() / channels;
  const size_t fitted = calibration.rows - calibration.held_out;
  const bool refit = options.refit != 0.0;
  Normal all = normal_equations(calibration, 0, fitted, k, channels, refit);
  const double damping = options.damping * mean_diagonal(all.h, k);
  Fit fit;
  if (calibration.held_out == 0) {
    if (refit) {
      MPQ_TRY(fit.weights, solve_ridge(all, k, channels, damping));
      fit.share = options.refit;
    }
  } else {
    const Normal rest = normal_equations(calibration, fitted, calibration.rows, k, channels, refit);
    if (refit) {
      MPQ_TRY(const Choice choice, choose_damping(all, rest, k, channels, damping));
      for (size_t i = 0; i < all.g.size(); ++i) all.g[i] += rest.g[i];
      for (size_t i = 0; i < all.h.size(); ++i) all.h[i] += rest.h[i];
      const double whole = static_cast<double>(calibration.rows) / static_cast<double>(fitted);
      fit.share = options.refit * choice.share;
      if (fit.share > 0.0) {
        MPQ_TRY(fit.weights, solve_ridge(all, k, channels, choice.damping * whole));
      }
    } else {
      for (size_t i = 0; i < all.h.size(); ++i) all.h[i] += rest.h[i];
    }
  }
  std::vector<float> target(weights.begin(), weights.end());
  if (fit.share > 0.0)
    for (size_t c = 0; c < channels; ++c)
      for (size_t i = 0; i < k; ++i)
        target[c * k + i] =
            static_cast<float>(target[c * k + i] + fit.share * fit.weights[i * channels + c]);
  return round_compensated(target, channels, bits, all.h,
                           options.damping * mean_diagonal(all.h, k));
}

}  // namespace mpq::convert
