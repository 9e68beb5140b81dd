// Gradients of a tape against central differences of its loss.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "converter/train/tape.h"

namespace mpq::convert::train {

struct GradientCheck {
  bool batch_moments = true;
  float width = 1e-2F;                        // of the difference
  const SequenceData* sequences = nullptr;    // of a sequence graph
  std::function<void(Tape*)> after_backward;  // plants a bug
};

// The loss is a fixed random combination of the outputs. Of the input and of every trained
// parameter but those of quantisers: the largest difference between its gradient and the slope,
// relative to the largest slope of its tensor.
std::map<std::string, double> gradient_errors(const Graph& graph, const GradientCheck& check = {});
double worst_gradient_error(const Graph& graph, const GradientCheck& check = {});

}  // namespace mpq::convert::train
