// A network of texts on codes learns from itself in float, on texts without labels: its hidden
// states behind every normalisation and its output (TinyBERT, arXiv 1909.10351; KDLSQ-BERT,
// arXiv 2101.05938, who use them with LSQ).
#pragma once

#include <functional>
#include <string>

#include "converter/train/optimizer.h"
#include "converter/train/schedule.h"

namespace mpq::convert::train {

struct DistilOptions {
  uint32_t batch = 16;  // texts
  uint64_t steps = 300;
  Schedule schedule = {.rate = 0.01F};
  OptimizerOptions optimizer = kRelativeAdamW;
  float hidden_share = 0.5F;  // of the loss; the output has the rest
  uint64_t seed = 1;
  std::string checkpoint;  // file; empty: none
  uint32_t checkpoint_steps = 50;
  // Called after every step with its loss. Returning false stops.
  std::function<bool(uint64_t step, double loss)> progress;
};

// Mean losses of the first and of the last tenth of the steps.
struct DistilReport {
  double before = 0.0, after = 0.0;
};

// real: the float network; graph: the same on codes, by quantize or add_quantizers: normalisations
// are found by their names. The loss is each value's squared error relative to the energy that it
// has in float. A run that was killed goes on from its checkpoint to the same bytes.
Result<DistilReport> distil(const Graph& real, Graph* graph, const SequenceData& texts,
                            const DistilOptions& options);

}  // namespace mpq::convert::train
