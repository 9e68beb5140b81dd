// Block by block reconstruction on unlabelled samples (BRECQ, arXiv 2102.05426): the weights and
// steps of a block are trained until its output is that of the float block, the blocks before it as
// they came out. Its inputs are mixed from both networks, element by element (QDrop,
// arXiv 2203.05740).
#pragma once

#include <functional>
#include <string>

#include "converter/train/optimizer.h"
#include "converter/train/schedule.h"

namespace mpq::convert::train {

struct ReconstructOptions {
  uint32_t batch = 32;
  uint64_t steps = 400;  // a block
  Schedule schedule = {.rate = 1e-3F};
  OptimizerOptions optimizer = {.method = Method::kAdamW, .weight_decay = 0.0F};
  float float_share = 0.5F;  // of the inputs' elements that come from the float network
  uint64_t seed = 1;
  // Called when a block is finished. Returning false stops.
  std::function<bool(size_t block, size_t blocks, const std::string& last)> progress;
};

struct BlockReport {
  std::string last;                  // node whose output the block is judged by
  size_t layers = 0;                 // with weights
  double before = 0.0, after = 0.0;  // squared error relative to the float output's energy
};

// graph: add_quantizers' of `real`, whose values have the same numbers there; images only. samples:
// [count][H][W][C] of the input. Batch norm keeps its running moments.
Result<std::vector<BlockReport>> reconstruct(const Graph& real, Graph* graph,
                                             std::span<const float> samples, size_t count,
                                             const ReconstructOptions& options);

}  // namespace mpq::convert::train
