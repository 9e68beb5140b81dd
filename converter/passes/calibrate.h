// From what a tensor holds to the grid of its codes, and how well two tensors agree.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "converter/graph.h"
#include "converter/passes/quantize.h"

namespace mpq::convert {

// The grid for `values` at a width. Never negative: zero point 0; else a zero point between the
// ends. kMse takes the step whose codes are nearest to `target` (the float tensor; the same size).
// weights: of the squared error in each of as many equal rows of values; empty: 1.
QuantSpec choose_grid(std::span<const float> values, std::span<const float> target, int bits,
                      const PtqOptions& options, std::span<const float> weights = {});

// The signed grid around 0 for rows of `width` columns, each of `parts` equal parts of a row with a
// scale of its own. Least squared error to `target`, or the largest magnitude, as the rule says.
QuantSpec choose_symmetric_grid(std::span<const float> values, std::span<const float> target,
                                size_t width, size_t parts, int bits, const PtqOptions& options);

// x on the grid, in place: the same arithmetic as FakeQuant in eval. width: of a row, when the spec
// has several scales.
void apply_grid(const QuantSpec& spec, std::span<float> x, size_t width = 1);

// Moments of each channel of NCHW tensors [count][channels][plane].
struct ChannelMoments {
  double mean_real = 0.0, mean_quantised = 0.0;
  double variance_real = 0.0, variance_quantised = 0.0, covariance = 0.0;
};
// weights: of each tensor; empty: 1.
std::vector<ChannelMoments> channel_moments(std::span<const float> real,
                                            std::span<const float> quantised, size_t channels,
                                            size_t plane, std::span<const float> weights = {});

// y = scale * quantised + bias.
struct ChannelFit {
  float scale = 1.0F, bias = 0.0F;
};
ChannelFit fit_channel(const ChannelMoments& moments, OutputCorrection rule);

// A high quantile of max(x, 0) for each channel, on a fixed sample.
std::vector<float> channel_peaks(std::span<const float> x, size_t channels, size_t plane,
                                 double quantile);

// The largest magnitude of each column of rows.
std::vector<float> column_peaks(std::span<const float> x, size_t width);

// 10 log10(sum real^2 / sum (real - quantised)^2); 200 when equal.
double sqnr(std::span<const float> real, std::span<const float> quantised);

}  // namespace mpq::convert
