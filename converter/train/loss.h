// Losses: the mean over rows, and its gradient, which is added to `gradient` times `weight`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mpq::convert::train {

struct LossTarget {
  float weight = 1.0F;
  std::span<float> gradient;  // of the loss in the outputs; empty: not wanted
};

// -log softmax(y)[label] of rows of `classes` logits; labels in 0 .. classes - 1.
double cross_entropy(std::span<const float> y, size_t classes, std::span<const int32_t> labels,
                     const LossTarget& target);

// t^2 KL(softmax(teacher / t) || softmax(y / t)): distillation of logits (Hinton et al.,
// arXiv 1503.02531).
double distillation(std::span<const float> y, std::span<const float> teacher, size_t classes,
                    float temperature, const LossTarget& target);

// |y - teacher|^2 / width: of hidden states, of a block's output.
double squared_error(std::span<const float> y, std::span<const float> teacher,
                     const LossTarget& target);

// Rows whose largest logit is the label's.
size_t count_correct(std::span<const float> y, size_t classes, std::span<const int32_t> labels);

}  // namespace mpq::convert::train
