// A network of texts on codes learns from itself in float, on texts without labels: its hidden
// states behind every normalisation and its output (TinyBERT, arXiv 1909.10351; KDLSQ-BERT,
// arXiv 2101.05938, who use them with LSQ).
#pragma once

#include "converter/train/fit_texts.h"

namespace mpq::convert::train {

struct DistilOptions : TextRecipe {
  float hidden_share = 0.5F;  // of the loss; the output has the rest
  bool bfloat16 = false;      // TapeOptions, of both networks
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
