// All layers of a network of images on codes learn together from the float network, on images
// without labels: its output (Hinton et al., arXiv 1503.02531) and the outputs of its blocks.
#pragma once

#include <functional>

#include "converter/train/fit.h"

namespace mpq::convert::train {

struct WholeOptions {
  // Steps or epochs, augmentation, temperature, checkpoint, ...; not its hidden values.
  Recipe recipe = {.epochs = 4,
                   .batch = 16,
                   .schedule = {.rate = 0.002F},
                   .optimizer = kRelativeAdamW,
                   .augmentation = {.pad = 8, .flip = true},
                   .checkpoint_seconds = 600};  // some hundred megabytes
  float hidden_share = 0.5F;  // of the loss: of the blocks' outputs; the network's has the rest
  bool bfloat16 = false;      // TapeOptions
  uint32_t held_out = 0;      // last images: not learned from, they judge
};

// How far the network is from float on the images that were held out.
struct Distance {
  double divergence = 0.0;  // mean KL(float || codes) of the output, nats
  double agreement = 0.0;   // share of the images with the same largest output
};
struct WholeReport {
  uint64_t steps = 0;
  double loss = 0.0;  // mean of the last epoch
  Distance before, after;
  bool kept = true;  // the trained network: it is not when it came no nearer to float
};

// real: the float network; graph: the same on codes: nodes are found by their names, weights start
// from their codes, spread within them. Labels are not looked at. Batch norm keeps its running
// moments. Returning false from `progress` stops with the checkpoint written; a run that was killed
// goes on from its checkpoint to the same bytes.
Result<WholeReport> train_whole(const Graph& real, Graph* graph, const ImageSet& images,
                                const WholeOptions& options,
                                const std::function<bool(const Progress&)>& progress = {});

}  // namespace mpq::convert::train
