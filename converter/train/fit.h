// A whole run of training on images: batches, losses, steps, checkpoints.
#pragma once

#include <functional>
#include <string>

#include "converter/train/images.h"
#include "converter/train/matched.h"
#include "converter/train/optimizer.h"
#include "converter/train/schedule.h"
#include "converter/train/tape.h"
#include "format/sha256.h"

namespace mpq::convert::train {

struct Recipe {
  uint32_t epochs = 10;
  uint64_t steps = 0;  // 0: of the epochs
  uint32_t batch = 128;
  Schedule schedule;
  OptimizerOptions optimizer;
  Augmentation augmentation;
  uint64_t seed = 1;
  bool bfloat16 = false;  // what the run's tapes multiply in: tape_options()
  // With a teacher: its share of the loss, the labels have the rest (none without labels).
  float teacher_share = 0.5F;
  float temperature = 1.0F;
  std::vector<Matched> hidden;  // values to learn from it too: their shares are part of its share
  double frozen_norms = 0.0;    // last share of the steps with batch norm's running moments fixed
  std::string checkpoint;       // file; empty: none
  uint32_t checkpoint_seconds = 60;
  uint32_t checkpoint_steps = 0;  // every so many steps too; 0: by time only
};

struct Progress {
  uint64_t step = 0, steps = 0;       // done, of
  double loss = 0.0, accuracy = 0.0;  // means since the epoch began
  float rate = 0.0F;
};

// Of the tapes of a run: what is trained, and its teacher.
inline TapeOptions tape_options(const Recipe& recipe) {
  return {.batch = recipe.batch, .bfloat16 = recipe.bfloat16};
}

// The last epoch's means; and batch by batch over the second half of the steps, loss and number of
// right answers.
struct Fitted {
  uint64_t steps = 0;
  double loss = 0.0, accuracy = 0.0;
  std::vector<double> losses, correct;
};

uint64_t total_steps(const Recipe& recipe, size_t images);

// Of everything that decides the course of a run; the number of threads is not in it.
format::Digest fingerprint(Tape* tape, Tape* teacher, const ImageSet& images, const Recipe& recipe);

// Trains the tape, whose batch is the recipe's. teacher: null, or a tape of the same batch that is
// only run. Returning false from `progress` stops with the checkpoint written. A run that was
// killed at any time continues from its checkpoint to the same bytes.
Result<Fitted> fit(Tape* tape, Tape* teacher, const ImageSet& images, const Recipe& recipe,
                   const std::function<bool(const Progress&)>& progress = {});

// Share of the images whose largest output is the label's; batch norm by its running moments.
Result<double> accuracy(Tape* tape, uint32_t batch, const ImageSet& images);

}  // namespace mpq::convert::train
