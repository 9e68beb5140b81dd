// Values that a network on codes should have as its teacher has them.
#pragma once

#include <span>
#include <vector>

#include "converter/train/tape.h"

namespace mpq::convert::train {

// A value in both networks, and what its error counts.
struct Matched {
  ValueId value = kNoValue, target = kNoValue;
  float share = 0.0F;
};

// Each of the values an equal part of the share.
void share_equally(float share, std::span<Matched> values);

// After both have run: the sum of the values' squared errors, each relative to the energy that it
// has in the teacher, times its share; and its gradients, one a value.
double matched_error(std::span<const Matched> values, Tape* tape, Tape* teacher,
                     std::vector<std::vector<float>>* gradients);

}  // namespace mpq::convert::train
