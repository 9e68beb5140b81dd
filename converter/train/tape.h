// A graph that can be trained: forward, backward, gradients of its parameters. Reverse mode over
// the operators of the graph, steps of quantisers among the parameters.
#pragma once

#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "converter/eval_sequences.h"
#include "converter/graph.h"
#include "converter/train/lsq.h"

namespace mpq::convert::train {

enum class Role : uint8_t {
  kWeight,
  kBias,
  kNorm,    // gain and shift of a normalisation
  kStep,    // of a quantiser
  kOffset,  // of a quantiser with a learned zero point
  kState,   // running moments: kept, not trained
};

struct Parameter {
  std::string name;  // "conv1.weight"
  Role role = Role::kWeight;
  ValueId value = kNoValue;
  ValueId step = kNoValue;  // of a weight on codes: the parameter that is its unit
  int bits = 32;            // of a weight on codes, or of what a step quantises
  float minimum = -std::numeric_limits<float>::infinity();  // training stays above it
  bool trained = true;
};

struct TapeOptions {
  uint32_t batch = 1;                        // of images; sequence graphs take what a run has
  bool input_gradient = false;               // of image graphs
  std::vector<ValueId> kept_gradients = {};  // activations: gradient() has theirs after backward()
  bool fixed_words = false;                  // tables of an Embedding are not trained
  // Convolutions and linear layers multiply numbers rounded to it; sums are binary32.
  bool bfloat16 = false;
};

// One tape computes one run at a time, on all cores. The same calls give the same bits with the
// same number of cores.
class Tape {
 public:
  // The graph with all its constants. Weights with codes start from the float values of the graph,
  // steps from the scales of the quantisers.
  static Result<Tape> create(Graph graph, const TapeOptions& options);
  Tape(Tape&&) noexcept;
  Tape& operator=(Tape&&) noexcept;
  ~Tape();

  // A batch of images, channels last; or any number of sequences. batch_moments, dropped: see Run.
  Checked forward(std::span<const float> images, bool batch_moments, const Dropped& dropped = {});
  Checked forward(const SequenceData& sequences, bool batch_moments = true);

  // The gradient of a loss in values of the graph, as data() has them. Overwrites gradient() of
  // every parameter.
  struct Seed {
    ValueId value;
    std::span<const float> gradient;
  };
  Checked backward(std::span<const Seed> seeds);

  const Graph& structure() const;  // as created, with the values added for steps
  std::vector<Parameter>& parameters();
  std::span<float> data(ValueId value);      // a parameter, or an activation of the last run
  std::span<float> gradient(ValueId value);  // of a parameter, the graph's input, or kept
  ValueId output() const;

  // The layer whose output is the first that is not finite, or empty.
  std::string first_not_finite() const;

  // The graph with its present parameters: scales, zero points and codes of every quantiser, float
  // weights of layers with codes on their grid.
  Graph graph() const;

 private:
  Tape();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mpq::convert::train
