// What a sequence model means in real numbers: its integer weights, scales and clamps, evaluated in
// binary64. Softmax, GELU and normalisation are those of the C library; codes and the 8 bit
// probabilities of attention are rounded where the format says so, nowhere else.
//
// Beside every value stands how far binary32 may be from it: the first-order rounding errors of the
// definitions in format/model.h (u = 2^-24 an operation, the stated errors of kernels/math).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format/model.h"

namespace mpq::test {

struct DoubleTensor {
  std::vector<int64_t> ints;  // codes and sums
  std::vector<double> reals;
};

struct Interval {
  double value = 0.0;      // of a code: before it is rounded and clamped
  double tolerance = 0.0;  // 0 or more
};

struct DoubleRun {
  std::vector<int32_t> ids, types;  // types may be empty
  std::vector<uint32_t> lengths;
};

// The outputs of one node from values of its inputs (constants included), an element each.
std::vector<std::vector<Interval>> double_outputs(const format::Model& model,
                                                  const format::Node& node, const DoubleRun& run,
                                                  const std::vector<DoubleTensor>& values);

// The constants of a model; all else empty.
std::vector<DoubleTensor> double_constants(const format::Model& model);

// What a run that makes no error but by the format's own roundings has in the outputs of a node.
DoubleTensor rounded(const format::Model& model, const format::Node& node, size_t output,
                     const std::vector<Interval>& values);

// The clamp of a node's output that holds codes.
struct CodeRange {
  double lo = 0.0, hi = 0.0;
};
CodeRange code_range(const format::Node& node, size_t output);

}  // namespace mpq::test
