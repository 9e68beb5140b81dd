// A whole run of training on texts: batches, steps, checkpoints. What the loss is, its user says.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "converter/train/optimizer.h"
#include "converter/train/schedule.h"
#include "format/sha256.h"

namespace mpq::convert::train {

struct TextRecipe {
  uint32_t batch = 16;  // texts
  uint64_t steps = 300;
  Schedule schedule = {.rate = 0.01F};
  OptimizerOptions optimizer = kRelativeAdamW;
  uint64_t seed = 1;
  std::string checkpoint;  // file; empty: none
  uint32_t checkpoint_steps = 250;
  // Called after every step with its loss. Returning false stops.
  std::function<bool(uint64_t step, double loss)> progress;
};

struct TextLoss {
  // Behind the tape's forward run on texts `chosen` of the set, which are `batch`: the loss, and
  // its gradients.
  std::function<Result<double>(std::span<const size_t> chosen, const SequenceData& batch,
                               std::vector<Tape::Seed>* gradients)>
      run;
  // What decides the run besides tape, texts and recipe.
  std::function<void(format::Sha256* sha)> fingerprint;
};

// Passes over the texts in a new order each; the losses, step by step. A run that was killed goes
// on from its checkpoint to the same bytes.
Result<std::vector<double>> fit_texts(Tape* tape, const SequenceData& texts,
                                      const TextRecipe& recipe, const TextLoss& loss);

// A class a text, cross-entropy of the tape's rows a sequence.
TextLoss classification(Tape* tape, const std::vector<int32_t>& labels);
// Share of the texts whose largest output is the label's.
Result<double> accuracy(Tape* tape, const SequenceData& texts, const std::vector<int32_t>& labels);

// The texts of these numbers.
SequenceData take_texts(const SequenceData& all, std::span<const size_t> chosen);
// Everything that a tape starts from.
void hash_tape(format::Sha256* sha, Tape* tape);

}  // namespace mpq::convert::train
