// Stochastic gradient descent with momentum, and AdamW (arXiv 1711.05101), over the parameters of a
// tape.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "converter/train/tape.h"

namespace mpq::convert::train {

enum class Method : uint8_t { kSgd, kAdamW };

struct OptimizerOptions {
  Method method = Method::kSgd;
  float momentum = 0.9F;
  bool nesterov = false;
  float beta1 = 0.9F, beta2 = 0.999F, epsilon = 1e-8F;
  float weight_decay = 1e-4F;  // of weights, by their bits: decay_share
  float step_rate = 1.0F;      // of steps and offsets, relative to the learning rate
  // AdamW's moves in units of what they change, so that one rate serves every layer: weights on
  // codes in codes (below 4 bits in the codes that 4 would have), steps relative to themselves,
  // others relative to the first root mean square of their tensor. step_rate is for all but weights
  // then.
  bool relative = false;
  float largest_norm = 0.0F;  // of all gradients together; 0: any
};

// What a network that has its codes already is trained with, from samples without labels.
inline constexpr OptimizerOptions kRelativeAdamW = {.method = Method::kAdamW,
                                                    .epsilon = 1e-12F,
                                                    .weight_decay = 0.0F,
                                                    .step_rate = 0.1F,
                                                    .relative = true};

// LSQ's rule: less freedom, less decay. 1 from 4 bits up, 1/2 at 3, 1/4 at 2.
float decay_share(int bits);

class Optimizer {
 public:
  Optimizer(Tape* tape, const OptimizerOptions& options);

  // One step against the gradients of the tape. An error names a parameter whose gradient is not
  // finite; nothing has changed then.
  Checked step(float learning_rate);

  // What a checkpoint keeps besides the parameters: momenta, one after the other, and the number of
  // steps.
  std::vector<std::vector<float>>& state() { return state_; }
  uint64_t steps = 0;

 private:
  Tape* tape_;
  OptimizerOptions options_;
  std::vector<float> sizes_;  // root mean squares, by parameter
  std::vector<std::vector<float>> state_;

  std::vector<float> units(const Parameter& parameter, float size) const;
};

}  // namespace mpq::convert::train
