// Reading a classifier's outputs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/cli/engine.h"

namespace mpq::cli {

struct ClassScore {
  size_t index = 0;
  double value = 0.0;         // logit or accumulator
  double probability = -1.0;  // softmax of f32 logits; -1 for integers
};

// The k best of `classes` values at `data` (f32 or s32), best first, the lower index first on ties.
std::vector<ClassScore> best_classes(const std::byte* data, mpq_dtype dtype, size_t classes,
                                     size_t k);

// The value of element i of an f32, s32 or code buffer.
double element(const std::byte* data, mpq_dtype dtype, size_t i);

// Class names: --labels FILE, or the model's.
Result<std::vector<std::string>> class_names(const Model& model, const Args& args);

}  // namespace mpq::cli
