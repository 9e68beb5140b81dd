// The gradient of the loss of a float network on some images, for selectors that look at it.
#pragma once

#include <memory>
#include <vector>

#include "converter/precision/selector.h"
#include "converter/train/images.h"
#include "converter/train/tape.h"

namespace mpq::convert::precision {

class LossGradient {
 public:
  // The network without its quantisers, batch norm by its running moments; options.samples of
  // options.images, `batch` at a time. Labels: those of the images, else the network's own best
  // classes. With `probes` every group's input passes a node of its own whose gradient is kept.
  static Result<LossGradient> of(const Question& question, uint32_t batch, bool probes);

  size_t batches() const { return chosen_.size() / batch_; }
  // Forward and backward of one batch: the mean loss over its images.
  Checked run(size_t batch);

  train::Tape& tape() { return *tape_; }
  ValueId weights(size_t layer) const { return weights_[layer]; }
  ValueId input(size_t group) const { return inputs_[group]; }  // kNoValue: the network's input

 private:
  const train::ImageSet* images_ = nullptr;
  uint32_t batch_ = 1;
  std::unique_ptr<train::Tape> tape_;
  std::vector<size_t> chosen_;
  std::vector<int32_t> labels_;
  std::vector<ValueId> weights_, inputs_;
  std::vector<float> pixels_, gradient_;
};

// The trace of the loss's Hessian in the weights of every layer that is a matter of choice, over
// options.probes random directions (hawq.cc).
struct TraceEstimate {
  double mean = 0.0, standard_error = 0.0;
};
Result<std::vector<TraceEstimate>> hessian_traces(const Question& question);

// The trace of the Fisher information in the weights of every layer and the input of every group; 0
// for the network's input (fit.cc).
struct FisherTraces {
  std::vector<double> weights, inputs;
};
Result<FisherTraces> fisher_traces(const Question& question);

// Are there images, at least `least`, and does the network take them?
Checked check_images(const Question& question, size_t least);

// What a float network's layers read, on options.samples of the images.
struct ObservedInputs {
  std::unique_ptr<train::Tape> tape;
  std::vector<ValueId> inputs;  // by layer
};
Result<ObservedInputs> observe_inputs(const Question& question);

}  // namespace mpq::convert::precision
