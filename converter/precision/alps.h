// ALPS (accuracy-aware layer precision selection): what a group of linked layers is worth is
// measured. Starting from a network trained at the high precision, the group is dropped to the low
// one, its steps are chosen anew, and the whole network is fine-tuned for a while; the gain is what
// that costs beside a matched run that drops nothing. Our implementation of the method described in
// arXiv 2301.13330; where its text leaves a choice, there is an option.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "converter/precision/groups.h"
#include "converter/train/fit.h"

namespace mpq::convert::precision {

// The first step at the low precision, by the step s at the high one.
enum class StepReset : uint8_t {
  kMse,    // least squared error
  kLsq,    // 2 mean|x| / sqrt(largest code)
  kRange,  // s times the ratio of the numbers of codes: the same span
  kClip,   // s times the ratio of the largest codes: the same upper end
};

struct AlpsOptions {
  int low_bits = 2;
  StepReset reset = StepReset::kMse;
  bool by_accuracy = false;  // gains in training accuracy instead of loss
  // Of every run, the reference's too: the same images in the same order. Its checkpoint is not
  // used.
  train::Recipe recipe;
  std::string folder;  // finished runs, and checkpoints of those begun; empty: none are kept
  uint32_t jobs = 1;   // groups at a time, a thread each; oneDNN's own threads come on top
  // Called from any of them, one at a time: runs done of all, and the layer that begins a group.
  // Returning false stops; finished runs and checkpoints stay.
  std::function<bool(size_t done, size_t total, const std::string& layer)> progress;
};

// Means over the batches of the second half of a run. The standard error is of the mean of paired
// differences, batch by batch, to the reference; it takes batches as independent.
struct AlpsRow {
  uint32_t group = 0;
  double loss = 0.0, accuracy = 0.0;
  double gain = 0.0, standard_error = 0.0;
  double seconds = 0.0;  // since the run was begun or last resumed
};
struct AlpsResult {
  AlpsRow reference;
  std::vector<AlpsRow> groups;  // those that are a matter of choice
};

// `trained`: a network with quantisers, batch norm unfolded, as `finetune --onnx` writes it.
// observed: a tape of train::without_quantizers(trained), batch norm by its running moments, that
// has run. teacher: null, or the network whose outputs the loss has a share of. The same bits for
// the same input, recipe and number of oneDNN's threads, however often it was killed and resumed.
Result<AlpsResult> alps(const Graph& trained, train::Tape* observed, const Graph* teacher,
                        const train::ImageSet& images, const AlpsOptions& options);

// The trained network with the layers of one group at `bits`, before fine-tuning.
Result<Graph> drop_group(const Graph& trained, train::Tape* observed, const Selection& selection,
                         uint32_t group, int bits, StepReset reset);

// A file for the selectors alps and gains; without times, which differ from run to run.
std::string print_gains(const AlpsResult& result, const Selection& selection,
                        const AlpsOptions& options);

}  // namespace mpq::convert::precision
