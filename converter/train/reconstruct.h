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

struct BlockReport {
  std::string last;                  // node whose output the block is judged by
  size_t layers = 0;                 // with weights
  double before = 0.0, after = 0.0;  // squared error relative to the float output's energy
};

struct ReconstructOptions {
  uint32_t batch = 16;
  // Pixels of a block's input that make a step: large images fill it with fewer of them, a half, a
  // quarter, ... of the batch. What a step costs in memory and time follows the pixels.
  uint32_t pixels = 6272;
  uint64_t steps = 250;  // a block
  Schedule schedule = {.rate = 0.01F};
  OptimizerOptions optimizer = kRelativeAdamW;
  float float_share = 0.5F;  // of the inputs' elements that come from the float network
  float drop_share = 0.5F;   // of the activations' elements in a block that are not quantised
  bool bfloat16 = false;     // TapeOptions
  uint64_t seed = 1;
  std::string checkpoint;  // file, written after every block; empty: none
  // Called when a block is finished. Returning false stops.
  std::function<bool(size_t block, size_t blocks, const BlockReport& report)> progress;
};

// real: the float network; graph: the same on codes, by add_quantizers or quantize: nodes are found
// by their names, weights start from their codes. Images only. samples: [count][H][W][C] of the
// input, of which the last that fill no batch are left out. Batch norm keeps its running moments.
// A run that was killed goes on behind its last whole block, to the same bytes.
Result<std::vector<BlockReport>> reconstruct(const Graph& real, Graph* graph,
                                             std::span<const float> samples, size_t count,
                                             const ReconstructOptions& options);

}  // namespace mpq::convert::train
