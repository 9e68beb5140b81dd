#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "converter/eval.h"
#include "converter/passes/calibrate.h"
#include "converter/passes/linear_algebra.h"
#include "converter/passes/patches.h"
#include "converter/passes/weights.h"
#include "graph_builder.h"

namespace mpq::convert {
namespace {

std::vector<float> normal(size_t count, uint32_t seed, float deviation = 1.0F) {
  return GraphBuilder(seed).random_data(count, deviation);
}

// ||w - scale * nearest codes||^2 in doubles.
double weight_error(const std::vector<float>& w, double scale, int bits) {
  double sum = 0.0;
  const double lo = -(1 << (bits - 1)), hi = (1 << (bits - 1)) - 1;
  for (const float x : w) {
    const double e = x - scale * std::clamp(std::nearbyint(x / scale), lo, hi);
    sum += e * e;
  }
  return sum;
}

// ||X (w - q)||^2 for one channel.
double output_error(const std::vector<float>& x, size_t rows, const std::vector<float>& w,
                    const std::vector<double>& q) {
  double sum = 0.0;
  for (size_t r = 0; r < rows; ++r) {
    double e = 0.0;
    for (size_t k = 0; k < w.size(); ++k) e += double{x[r * w.size() + k]} * (w[k] - q[k]);
    sum += e * e;
  }
  return sum;
}

std::vector<double> real_weights(const QuantisedWeights& q, size_t channel, size_t k) {
  std::vector<double> w;
  for (size_t i = 0; i < k; ++i) w.push_back(double{q.scale[channel]} * q.codes[channel * k + i]);
  return w;
}

}  // namespace

TEST_CASE("linear algebra: products equal plain sums at every edge of the panels") {
  for (const auto& [rows, m, n] :
       {std::array<size_t, 3>{1, 1, 1}, {3, 63, 65}, {257, 64, 130}, {300, 5, 3}}) {
    const std::vector<float> a = normal(rows * m, 1), b = normal(rows * n, 2);
    const std::vector<float> c = transposed_product(a, b, rows, m, n);
    for (size_t i = 0; i < m; ++i)
      for (size_t j = 0; j < n; ++j) {
        float sum = 0.0F;  // the stated order: s rising, products rounded
        for (size_t s = 0; s < rows; ++s) sum += a[s * m + i] * b[s * n + j];
        REQUIRE(c[i * n + j] == sum);
      }
    const std::vector<float> h = gram(a, rows, m);
    CHECK(h == transposed_product(a, a, rows, m, m));
    std::vector<float> bt(n * rows);
    for (size_t s = 0; s < rows; ++s)
      for (size_t j = 0; j < n; ++j) bt[j * rows + s] = b[s * n + j];
    std::vector<float> at(m * rows);
    for (size_t s = 0; s < rows; ++s)
      for (size_t i = 0; i < m; ++i) at[i * rows + s] = a[s * m + i];
    CHECK(product_transposed(at, bt, m, rows, n) == c);
  }
}

TEST_CASE("linear algebra: the factor gives the matrix back and solves") {
  for (const size_t n : {1U, 5U, 48U, 49U, 131U}) {
    const std::vector<float> x = normal(2 * n * n, 7);
    const std::vector<float> g = gram(x, 2 * n, n);
    const std::vector<double> h(g.begin(), g.end());
    std::vector<double> r = h;
    REQUIRE(cholesky(r, n).ok());
    double worst = 0.0;
    for (size_t i = 0; i < n; ++i)
      for (size_t j = i; j < n; ++j) {
        double sum = 0.0;
        for (size_t p = 0; p <= i; ++p) sum += r[p * n + i] * r[p * n + j];
        worst = std::max(worst, std::abs(sum - h[i * n + j]) / h[i * n + i]);
      }
    CHECK(worst < 1e-12);
    for (const size_t columns : {3U, 32U, 71U}) {  // below, at and behind a tile's width
      std::vector<double> b(n * columns);
      for (size_t i = 0; i < n; ++i)
        for (size_t c = 0; c < columns; ++c)
          for (size_t j = 0; j < n; ++j)
            b[i * columns + c] += h[i * n + j] * static_cast<double>(j + c);
      solve_cholesky(r, n, b, columns);
      for (size_t j = 0; j < n; ++j)
        for (size_t c = 0; c < columns; ++c)
          CHECK(b[j * columns + c] ==
                doctest::Approx(static_cast<double>(j + c)).epsilon(1e-6).scale(10));
    }
  }
  std::vector<double> bad = {1.0, 2.0, 2.0, 1.0};
  CHECK_FALSE(cholesky(bad, 2).ok());
}

TEST_CASE("weights: the searched scale is as good as a brute-force one") {
  for (const int bits : {8, 4, 2})
    for (uint32_t seed = 1; seed <= 5; ++seed) {
      std::vector<float> w = normal(200, seed, 0.1F);
      if (seed == 5) w[3] = 1.0F;  // an outlier that is better clipped
      double least = 1e30;
      for (double scale = 1e-4; scale < 1.0; scale *= 1.0005)
        least = std::min(least, weight_error(w, scale, bits));
      const double found = weight_error(w, double{search_weight_scale(w, {}, bits)}, bits);
      CHECK(found >= least * 0.999);
      CHECK(found <= least * (bits == 8 ? 1.1 : 1.03));  // 8 bits: jagged, and small
    }
  CHECK(search_weight_scale(std::vector<float>(4, 0.0F), {}, 4) > 0.0F);
}

TEST_CASE("weights: compensated rounding is between nearest rounding and the optimum") {
  // Strongly correlated inputs, where rounding each weight by itself is far from the best.
  constexpr size_t kRows = 64, kColumns = 5;
  size_t better = 0;
  for (uint32_t seed = 1; seed <= 10; ++seed) {
    std::vector<float> x = normal(kRows * kColumns, seed, 0.3F);
    const std::vector<float> common = normal(kRows, seed + 50);
    for (size_t i = 0; i < x.size(); ++i) x[i] += common[i / kColumns];
    const std::vector<float> w = normal(kColumns, seed + 100);
    const std::vector<float> none(kRows, 0.0F);
    const Result<QuantisedWeights> found =
        compensate_weights(w, 1, 2, {x, none, kRows, 0}, {1e-6, 1.0});
    REQUIRE(found.ok());
    const double scale = found->scale[0];
    for (size_t k = 0; k < kColumns; ++k)
      CHECK(std::nearbyint(std::clamp(found->positions[k], -2.0F, 1.0F)) == found->codes[k]);
    const double error = output_error(x, kRows, w, real_weights(*found, 0, kColumns));
    std::vector<double> nearest;
    for (const float v : w)
      nearest.push_back(scale * std::clamp(std::nearbyint(v / scale), -2.0, 1.0));
    double optimum = 1e30;
    for (int code = 0; code < 1 << (2 * kColumns); ++code) {
      std::vector<double> q;
      for (size_t k = 0; k < kColumns; ++k) q.push_back(scale * (((code >> (2 * k)) & 3) - 2));
      optimum = std::min(optimum, output_error(x, kRows, w, q));
    }
    CHECK(error >= optimum * 0.9999);
    const double plain = output_error(x, kRows, w, nearest);
    CHECK(error <= plain * 1.0001 + 1e-9);
    better += error < plain * 0.9 ? 1 : 0;
  }
  CHECK(better >= 3);
}

TEST_CASE("weights: the refit makes good what the inputs lost") {
  constexpr size_t kRows = 400, kColumns = 16;
  const std::vector<float> real = normal(kRows * kColumns, 1);
  std::vector<float> x = real, errors;
  for (float& v : x) v *= 0.8F;  // all inputs too small: the weights must grow by 1.25
  const std::vector<float> w = normal(kColumns, 2);
  for (size_t r = 0; r < kRows; ++r) {
    float e = 0.0F;
    for (size_t k = 0; k < kColumns; ++k)
      e += (real[r * kColumns + k] - x[r * kColumns + k]) * w[k];
    errors.push_back(e);
  }
  const auto ratio = [&](double refit) {
    const Result<QuantisedWeights> q =
        compensate_weights(w, 1, 8, {x, errors, kRows, 0}, {1e-6, refit});
    REQUIRE(q.ok());
    const std::vector<double> real_q = real_weights(*q, 0, kColumns);
    double num = 0.0, den = 0.0;
    for (size_t k = 0; k < kColumns; ++k) {
      num += real_q[k] * w[k];
      den += double{w[k]} * w[k];
    }
    return num / den;
  };
  CHECK(ratio(1.0) == doctest::Approx(1.25).epsilon(0.01));
  CHECK(ratio(0.0) == doctest::Approx(1.0).epsilon(0.01));
}

TEST_CASE("weights: rows held out keep a refit from learning noise") {
  // More columns than rows to learn from, and errors that have nothing to do with the inputs.
  constexpr size_t kRows = 100, kHeldOut = 40, kColumns = 64;
  const std::vector<float> x = normal(kRows * kColumns, 21), noise = normal(kRows, 22, 3.0F);
  const std::vector<float> w = normal(kColumns, 23);
  const auto moved = [&](const std::vector<float>& errors, size_t held_out) {
    const Result<QuantisedWeights> q =
        compensate_weights(w, 1, 8, {x, errors, kRows, held_out}, {1e-3, 1.0});
    REQUIRE(q.ok());
    const std::vector<double> real = real_weights(*q, 0, kColumns);
    double sum = 0.0;
    for (size_t k = 0; k < kColumns; ++k) sum += (real[k] - w[k]) * (real[k] - w[k]);
    return std::sqrt(sum);
  };
  CHECK(moved(noise, 0) > 1.0);
  CHECK(moved(noise, kHeldOut) < 0.3 * moved(noise, 0));
  // Errors that the inputs do explain are still learnt: E = 0.5 X w.
  std::vector<float> explained(kRows);
  for (size_t i = 0; i < x.size(); ++i) explained[i / kColumns] += 0.5F * x[i] * w[i % kColumns];
  CHECK(moved(explained, kHeldOut) > 0.6 * moved(explained, 0));
}

TEST_CASE("steps: the least-squares step is as good as a brute-force one") {
  for (const int bits : {8, 4, 2}) {
    std::vector<float> x = normal(1000, 3);
    for (float& v : x) v = std::max(v, 0.0F);
    const auto error = [&](double scale) {
      double sum = 0.0;
      for (const float v : x) {
        const double e =
            v - scale * std::clamp(std::nearbyint(v / scale), 0.0, double((1 << bits) - 1));
        sum += e * e;
      }
      return sum;
    };
    double least = 1e30;
    for (double scale = 1e-3; scale < 4.0; scale *= 1.001) least = std::min(least, error(scale));
    const QuantSpec spec = choose_grid(x, x, bits, {});
    CHECK(spec.zero_point == 0);
    CHECK_FALSE(spec.is_signed);
    CHECK(spec.hi == (1 << bits) - 1);
    CHECK(error(double{spec.scale[0]}) <= least * 1.03);
  }
}

TEST_CASE("steps: asymmetric ranges get a zero point, and real 0 is a code") {
  std::vector<float> x;
  for (int i = 0; i <= 1000; ++i) x.push_back(-1.0F + 0.004F * static_cast<float>(i));  // -1 .. 3
  PtqOptions options;
  options.step = StepRule::kMinMax;
  const QuantSpec spec = choose_grid(x, x, 8, options);
  CHECK(spec.scale[0] == doctest::Approx(4.0 / 255));
  CHECK(spec.zero_point == 64);  // 1 / (4 / 255) = 63.75
  std::vector<float> zero = {0.0F, -50.0F, 50.0F};
  apply_grid(spec, zero);
  CHECK(zero[0] == 0.0F);
  CHECK(zero[1] == doctest::Approx(-64 * 4.0 / 255));
  CHECK(zero[2] == doctest::Approx((255 - 64) * 4.0 / 255));

  // All negative: the range still reaches 0. Nothing at all: a valid grid.
  const QuantSpec negative =
      choose_grid(std::vector<float>(10, -2.0F), std::vector<float>(10, -2.0F), 4, options);
  CHECK(negative.zero_point == 15);
  const QuantSpec nothing =
      choose_grid(std::vector<float>(10, 0.0F), std::vector<float>(10, 0.0F), 4, {});
  CHECK(nothing.scale[0] > 0.0F);
}

TEST_CASE("steps: a percentile ignores the tail") {
  std::vector<float> x;
  for (int i = 0; i < 10000; ++i) x.push_back(static_cast<float>(i % 100) * 0.01F);  // 0 .. 0.99
  x[17] = 1000.0F;
  PtqOptions options;
  options.step = StepRule::kPercentile;
  options.percentile = 99.9;
  CHECK(choose_grid(x, x, 4, options).scale[0] == doctest::Approx(0.99 / 15));
}

TEST_CASE("correction: each rule keeps what it promises") {
  constexpr size_t kChannels = 3, kPlane = 50, kCount = 4;
  const std::vector<float> real = normal(kCount * kChannels * kPlane, 5);
  std::vector<float> quantised = real;
  const std::vector<float> noise = normal(real.size(), 6, 0.5F);
  for (size_t i = 0; i < real.size(); ++i) quantised[i] = 0.8F * real[i] + noise[i] + 0.3F;
  const auto corrected = [&](OutputCorrection rule) {
    const std::vector<ChannelMoments> m = channel_moments(real, quantised, kChannels, kPlane);
    std::vector<float> y = quantised;
    for (size_t i = 0; i < y.size(); ++i) {
      const ChannelFit fit = fit_channel(m[i / kPlane % kChannels], rule);
      y[i] = y[i] * fit.scale + fit.bias;
    }
    return channel_moments(real, y, kChannels, kPlane);
  };
  for (const ChannelMoments& m : corrected(OutputCorrection::kBias))
    CHECK(m.mean_quantised == doctest::Approx(m.mean_real).scale(1).epsilon(1e-5));
  for (const ChannelMoments& m : corrected(OutputCorrection::kMoments)) {
    CHECK(m.mean_quantised == doctest::Approx(m.mean_real).scale(1).epsilon(1e-5));
    CHECK(m.variance_quantised == doctest::Approx(m.variance_real).epsilon(1e-4));
  }
  // Least squares: the residual is orthogonal to the quantised output.
  for (const ChannelMoments& m : corrected(OutputCorrection::kLeastSquares)) {
    CHECK(m.mean_quantised == doctest::Approx(m.mean_real).scale(1).epsilon(1e-5));
    CHECK(m.covariance == doctest::Approx(m.variance_quantised).epsilon(1e-4));
  }
  CHECK(fit_channel({}, OutputCorrection::kLeastSquares).scale == 1.0F);
}

TEST_CASE("patches: their product with the weights is the convolution") {
  GraphBuilder b(11);
  const ValueId x = b.input({1, 4, 7, 6});
  const Conv conv{2, 1, 1, 0, 2, 1, 1, 2, 2};
  const ValueId w = b.random({6, 2, 3, 2});
  const ValueId y = b.node(conv, {x, w});
  const Graph graph = b.finish(y);
  constexpr size_t kImages = 2;
  const std::vector<float> data = b.random_data(kImages * 4 * 7 * 6);
  Result<Evaluator> evaluator = Evaluator::create(graph, kImages);
  REQUIRE(evaluator.ok());
  const Result<std::vector<float>> expected = evaluator->run(data);
  REQUIRE(expected.ok());
  const Shape& out = graph.values[y].shape;
  const auto pixels = static_cast<size_t>(out[2] * out[3]);
  const PatchSample all{&conv, {1, 4, 7, 6}, {6, 2, 3, 2}, out, kImages, kImages * pixels, 1};
  REQUIRE(patch_count(all) == kImages * pixels);  // every pixel, in order
  for (uint32_t g = 0; g < 2; ++g) {
    const std::vector<float> rows = take_patches(all, data, g);
    for (size_t n = 0; n < kImages; ++n)
      for (size_t p = 0; p < pixels; ++p)
        for (size_t o = g * 3; o < g * 3 + 3; ++o) {
          float sum = 0.0F;
          for (size_t k = 0; k < 12; ++k)
            sum += rows[(n * pixels + p) * 12 + k] * graph.values[w].data[o * 12 + k];
          CHECK((*expected)[(n * 6 + o) * pixels + p] ==
                doctest::Approx(sum).scale(1).epsilon(1e-5));
        }
  }
  PatchSample few = all;
  few.limit = 8;
  CHECK(take_patches(few, data, 0).size() == 8 * 12);
  CHECK(take_patches(few, data, 0) == take_patches(few, data, 0));
}

TEST_CASE("ratios: signal over noise in decibels") {
  CHECK(sqnr(std::vector<float>{3, 4}, std::vector<float>{3, 4}) == 200.0);
  CHECK(sqnr(std::vector<float>{10, 0}, std::vector<float>{9, 0}) == doctest::Approx(20.0));
}

}  // namespace mpq::convert
