#include "converter/passes/calibrate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "converter/parallel.h"
#include "converter/passes/block_sum.h"

namespace mpq::convert {
namespace {

constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23: adding it rounds half to even

// Scrambles a counter (SplitMix64): a fixed sample without the period of rows and planes.
uint64_t scramble(uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

float on_grid(float x, float scale, float zero, float lo, float hi) {
  const float position = std::min(std::max(x / scale + zero, lo), hi);
  return (((position + kMagic) - kMagic) - zero) * scale;
}

QuantSpec grid_between(float lo, float hi, int bits) {
  const auto top = static_cast<float>((1 << bits) - 1);
  QuantSpec spec;
  spec.bits = bits;
  spec.hi = (1 << bits) - 1;
  lo = std::min(lo, 0.0F);
  hi = std::max(hi, 0.0F);
  const float scale = (hi - lo) / top;
  spec.scale = {scale > 0.0F && std::isfinite(scale) ? scale : 1.0F};
  spec.zero_point = static_cast<int32_t>(std::nearbyint(-lo / spec.scale[0]));
  return spec;
}

// weights: of each element; empty: 1.
double grid_error(const QuantSpec& spec, const std::vector<float>& x,
                  const std::vector<float>& target, const std::vector<float>& weights = {}) {
  const float scale = spec.scale[0], zero = static_cast<float>(spec.zero_point);
  const auto lo = static_cast<float>(spec.lo), hi = static_cast<float>(spec.hi);
  const auto error = [&](size_t i) {
    const float e = on_grid(x[i], scale, zero, lo, hi) - target[i];
    return e * e;
  };
  if (weights.empty()) return block_sum(x.size(), error);
  return block_sum(x.size(), [&](size_t i) { return error(i) * weights[i]; });
}

}  // namespace

QuantSpec choose_grid(std::span<const float> values, std::span<const float> target, int bits,
                      const PtqOptions& options, std::span<const float> weights) {
  constexpr size_t kSample = size_t{1} << 17;
  const size_t row = weights.empty() ? 1 : values.size() / weights.size();
  std::vector<float> x, t, w;
  const size_t count = std::min(values.size(), kSample);
  for (size_t i = 0; i < count; ++i) {
    const size_t at = count == values.size() ? i : scramble(i) % values.size();
    x.push_back(values[at]);
    t.push_back(target[at]);
    if (!weights.empty()) w.push_back(weights[at / row]);
  }
  if (x.empty()) return grid_between(0.0F, 0.0F, bits);
  const auto [least, most] = std::minmax_element(x.begin(), x.end());
  const float lo = *least, hi = *most;
  if (options.step == StepRule::kMinMax) {
    // The sample may miss the ends.
    const auto [all_least, all_most] = std::minmax_element(values.begin(), values.end());
    return grid_between(*all_least, *all_most, bits);
  }
  if (options.step == StepRule::kPercentile) {
    std::vector<float> sorted = x;
    std::sort(sorted.begin(), sorted.end());
    const auto last = static_cast<double>(sorted.size() - 1);
    const double share = std::clamp(options.percentile / 100.0, 0.0, 1.0);
    return grid_between(sorted[static_cast<size_t>(std::lround(last * (1.0 - share)))],
                        sorted[static_cast<size_t>(std::lround(last * share))], bits);
  }

  // Candidates shrink both ends alike: a geometric scan, then a finer one around its best.
  const double narrowest = bits == 8 ? 0.4 : bits == 4 ? 0.06 : 0.03;
  constexpr int kCoarse = 48, kFine = 6;
  const double ratio = std::pow(narrowest, 1.0 / (kCoarse - 1));
  QuantSpec best = grid_between(lo, hi, bits);
  double error = grid_error(best, x, t, w), share = 1.0;
  const auto consider = [&](double candidate) {
    const auto c = static_cast<float>(candidate);
    const QuantSpec spec = grid_between(lo * c, hi * c, bits);
    const double e = grid_error(spec, x, t, w);
    if (e < error) {
      error = e;
      best = spec;
      share = candidate;
    }
  };
  for (int i = 1; i < kCoarse; ++i) consider(std::pow(ratio, i));
  const double centre = share;
  for (int i = -kFine + 1; i < kFine; ++i)
    consider(std::min(centre * std::pow(ratio, static_cast<double>(i) / kFine), 1.0));
  return best;
}

QuantSpec choose_symmetric_grid(std::span<const float> values, std::span<const float> target,
                                size_t width, size_t parts, int bits, const PtqOptions& options) {
  constexpr size_t kSample = size_t{1} << 15;
  const size_t part = width / parts, rows = values.size() / width;
  QuantSpec spec;
  spec.bits = bits;
  spec.is_signed = true;
  spec.hi = (1 << (bits - 1)) - 1;
  spec.lo = -spec.hi;
  spec.scale.assign(parts, 1.0F);
  parallel_for(parts, 1, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      const size_t total = rows * part;
      std::vector<float> x, t;
      float most = 0.0F;
      for (size_t i = 0; i < total; ++i) {
        const size_t at = i / part * width + p * part + i % part;
        most = std::max(most, std::abs(values[at]));
      }
      for (size_t i = 0; i < std::min(total, kSample); ++i) {
        const size_t k = total <= kSample ? i : scramble(i) % total;
        const size_t at = k / part * width + p * part + k % part;
        x.push_back(values[at]);
        t.push_back(target[at]);
      }
      if (!(most > 0.0F)) continue;
      const float widest = most / static_cast<float>(spec.hi);
      spec.scale[p] = widest;
      if (options.step != StepRule::kMse) continue;
      double least = std::numeric_limits<double>::infinity();
      constexpr int kSteps = 40;
      for (int i = 0; i < kSteps; ++i) {
        QuantSpec candidate = spec;
        candidate.scale = {widest * (1.0F - 0.015F * static_cast<float>(i))};
        const double error = grid_error(candidate, x, t);
        if (error < least) {
          least = error;
          spec.scale[p] = candidate.scale[0];
        }
      }
    }
  });
  return spec;
}

void apply_grid(const QuantSpec& spec, std::span<float> x, size_t width) {
  const float zero = static_cast<float>(spec.zero_point);
  const auto lo = static_cast<float>(spec.lo), hi = static_cast<float>(spec.hi);
  const size_t part = std::max<size_t>(width / spec.scale.size(), 1);
  const bool one = spec.scale.size() == 1;
  parallel_for(x.size(), size_t{1} << 16, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      x[i] = on_grid(x[i], spec.scale[one ? 0 : i / part % spec.scale.size()], zero, lo, hi);
  });
}

std::vector<ChannelMoments> channel_moments(std::span<const float> real,
                                            std::span<const float> quantised, size_t channels,
                                            size_t plane, std::span<const float> weights) {
  const size_t count = real.size() / (channels * plane);
  std::vector<ChannelMoments> moments(channels);
  parallel_for(channels, 1, [&](size_t begin, size_t end) {
    for (size_t c = begin; c < end; ++c) {
      double r = 0.0, q = 0.0, rr = 0.0, qq = 0.0, rq = 0.0, total = 0.0;
      for (size_t n = 0; n < count; ++n) {
        const size_t at = (n * channels + c) * plane;
        const double w = weights.empty() ? 1.0 : weights[n];
        for (size_t p = at; p < at + plane; ++p) {
          const double a = real[p], b = quantised[p];
          r += w * a;
          q += w * b;
          rr += w * a * a;
          qq += w * b * b;
          rq += w * a * b;
        }
        total += w * static_cast<double>(plane);
      }
      ChannelMoments& m = moments[c];
      m.mean_real = r / total;
      m.mean_quantised = q / total;
      m.variance_real = std::max(rr / total - m.mean_real * m.mean_real, 0.0);
      m.variance_quantised = std::max(qq / total - m.mean_quantised * m.mean_quantised, 0.0);
      m.covariance = rq / total - m.mean_real * m.mean_quantised;
    }
  });
  return moments;
}

ChannelFit fit_channel(const ChannelMoments& m, OutputCorrection rule) {
  double scale = 1.0;
  if (m.variance_quantised > 0.0) {
    if (rule == OutputCorrection::kMoments)
      scale = std::sqrt(m.variance_real / m.variance_quantised);
    if (rule == OutputCorrection::kLeastSquares) scale = m.covariance / m.variance_quantised;
    // Beyond that the channel is noise, and a scale must stay positive.
    scale = std::clamp(scale, 0.5, 2.0);
  }
  ChannelFit fit;
  fit.scale = static_cast<float>(scale);
  fit.bias = static_cast<float>(m.mean_real - scale * m.mean_quantised);
  return fit;
}

std::vector<float> channel_peaks(std::span<const float> x, size_t channels, size_t plane,
                                 double quantile) {
  const size_t count = x.size() / (channels * plane), total = count * plane;
  constexpr size_t kSample = 1 << 13;
  std::vector<float> peaks(channels);
  parallel_for(channels, 1, [&](size_t begin, size_t end) {
    std::vector<float> sample;
    for (size_t c = begin; c < end; ++c) {
      sample.clear();
      for (size_t i = 0; i < std::min(total, kSample); ++i) {
        const size_t at = total <= kSample ? i : scramble(i) % total;
        sample.push_back(std::max(x[(at / plane * channels + c) * plane + at % plane], 0.0F));
      }
      const auto rank = static_cast<ptrdiff_t>(static_cast<double>(sample.size() - 1) * quantile);
      std::nth_element(sample.begin(), sample.begin() + rank, sample.end());
      peaks[c] = sample[static_cast<size_t>(rank)];
    }
  });
  return peaks;
}

std::vector<float> column_peaks(std::span<const float> x, size_t width) {
  std::vector<float> peaks(width, 0.0F);
  for (size_t row = 0; row + width <= x.size(); row += width)
    for (size_t c = 0; c < width; ++c) peaks[c] = std::max(peaks[c], std::abs(x[row + c]));
  return peaks;
}

double sqnr(std::span<const float> real, std::span<const float> quantised) {
  constexpr size_t kBlock = size_t{1} << 16;  // sums of fixed blocks: the same for any thread count
  const size_t blocks = (real.size() + kBlock - 1) / kBlock;
  std::vector<double> signal(blocks), noise(blocks);
  parallel_for(blocks, 4, [&](size_t begin, size_t end) {
    for (size_t b = begin; b < end; ++b)
      for (size_t i = b * kBlock; i < std::min(real.size(), (b + 1) * kBlock); ++i) {
        const double error = double{real[i]} - double{quantised[i]};
        signal[b] += double{real[i]} * double{real[i]};
        noise[b] += error * error;
      }
  });
  double s = 0.0, n = 0.0;
  for (size_t b = 0; b < blocks; ++b) {
    s += signal[b];
    n += noise[b];
  }
  if (n == 0.0) return 200.0;
  return s == 0.0 ? -200.0 : std::min(10.0 * std::log10(s / n), 200.0);
}

}  // namespace mpq::convert
