// Learned step size quantisation (LSQ, arXiv 1902.08153), and with a learned offset (LSQ+,
// arXiv 2004.09576).
//
//   y = clamp(round_half_even(x / s), lo - z, hi - z) * s        the same arithmetic as FakeQuant
//   in eval.h dy/dx = 1 inside the range, 0 outside dy/ds = round(x / s) - x / s inside, lo - z or
//   hi - z outside         times 1 / sqrt(N hi)
//
// The zero point z is a code, so that real 0 has one: z = round(-offset / s) of LSQ+, whose offset
// has the gradient 1 outside the range and 0 inside.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "converter/graph.h"

namespace mpq::convert::train {

// Elements that keep their value instead of being quantised, drawn by their index and the seed
// (QDrop, arXiv 2203.05740).
struct Dropped {
  float share = 0.0F;
  uint64_t seed = 0;
};

// x has equal parts one behind the other, part p on the step p % steps.size().
struct LsqGrid {
  std::span<const float> steps;
  size_t part = 0;             // elements
  float lo = 0.0F, hi = 0.0F;  // codes less the zero point
  Dropped dropped = {};
};

// to[i] = from[i] where element i is drawn.
void take_dropped(const Dropped& dropped, std::span<const float> from, std::span<float> to);

void lsq_forward(const LsqGrid& grid, std::span<const float> x, std::span<float> y);

// dx: empty when nobody wants it; else overwritten, or added to. The gradients of steps and offset
// are not scaled yet.
struct LsqGradients {
  std::vector<double> steps;
  double offset = 0.0;
};
LsqGradients lsq_backward(const LsqGrid& grid, std::span<const float> x, std::span<const float> dy,
                          std::span<float> dx, bool add);

// 1 / sqrt(N hi): keeps the step's relative speed near that of what it quantises. features: weights
// that share the step, or elements of one sample's activation.
float lsq_gradient_scale(size_t features, int32_t hi);

// Where LSQ starts: 2 mean|x| / sqrt(hi); 1 when x is all 0.
float lsq_first_step(std::span<const float> x, int32_t hi);

// The zero point of an offset.
int32_t zero_point_of(float offset, float step, int32_t lo, int32_t hi);

// The code of x on a grid without zero point, as y above has it.
int32_t lsq_code(float x, float step, int32_t lo, int32_t hi);

// Codes and positions of weights on the steps that quant has.
void requantise(std::span<const float> weights, WeightQuant* quant);

}  // namespace mpq::convert::train
