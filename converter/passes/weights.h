// Integer weights for one Conv or Linear.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "format/status.h"

namespace mpq::convert {

struct QuantisedWeights {
  std::vector<float> scale;      // one a channel
  std::vector<int8_t> codes;     // [channels][k]
  std::vector<float> positions;  // what was rounded to them, in codes
};

// The scale of one channel that minimises sum of importance[i] * (w[i] - scale * code[i])^2 over a
// grid of candidates refined around the best one; codes rounded to nearest. importance: empty = 1.
float search_weight_scale(std::span<const float> weights, std::span<const float> importance,
                          int bits);

// code[i] = clamp(round_half_even(w[i] / scale)).
void round_weights(std::span<const float> weights, float scale, int bits, std::span<int8_t> codes);

// Per-channel scales and codes, to nearest.
QuantisedWeights quantise_weights(std::span<const float> weights, size_t channels, int bits);

// What a layer is fitted to: inputs X [rows][k] of the quantised network and the error that they
// cause, E [rows][channels] = (X_float - X) W^T.
struct Calibration {
  std::span<const float> inputs, errors;
  size_t rows = 0;
  size_t held_out = 0;  // of the rows, the last ones: they choose how much the refit is damped
};
struct CompensationOptions {
  double damping = 0.01;  // of the mean diagonal of X^T X
  double refit = 1.0;     // share of the least-squares fit of E that is added to the weights
};

// Minimises ||X_float W^T - X (scale * codes)^T||^2 + damping * ||W - scale * codes||^2
// approximately: the real minimum W*, scales by search around W*, then nearest-plane rounding along
// the Cholesky factor of X^T X + damping (each rounding error is made good by the columns still to
// come; columns with the largest energy first). A layer may have more columns than the sample has
// independent rows: rows that are held out choose a stronger damping for W*, or a part of the way
// to it.
Result<QuantisedWeights> compensate_weights(std::span<const float> weights, size_t channels,
                                            int bits, const Calibration& calibration,
                                            const CompensationOptions& options);

}  // namespace mpq::convert
