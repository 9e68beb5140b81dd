// Post-training quantisation without training: a folded float graph -> the same graph with
// FakeQuant nodes and integer weights, ready for lower(). One walk in topological order runs the
// float network and the network quantised so far side by side on the calibration samples, so every
// layer is fitted to the inputs that it will really see:
//
//   equalise      rescale channels between Conv -> Relu -> Conv, between the values and the
//                 output of an attention, and behind a LayerNorm (SmoothQuant, arXiv 2211.10438);
//                 the function is unchanged
//   step          of each activation: least squared error against the float tensor, or a percentile
//   weights       per-channel scale by search, then rounding with error compensation: column by
//                 column, the error of a rounded weight is spread over the columns still to come by
//                 the inverse of H = X X^T (OBQ/GPTQ). The target is the least-squares fit of the
//                 float output on the quantised input, so errors of earlier layers are made good
//                 too, as far as samples that are held out bear it out
//   output        per-channel bias and scale from the float and the quantised output: bias
//                 correction, BatchNorm re-estimation
//
// Networks of sequences are walked on rows of tokens. Their residual stream stays in float, query,
// key and value get 8 bit codes around 0 with a scale a head, words 8 bit with a scale a word.
//
// First Conv and last Linear stay at 8 bit unless the map says otherwise, and so does the residual
// stream; layers that read one tensor at one width share its step. Deterministic: the same bytes
// for the same graph, samples and options.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "converter/eval_sequences.h"
#include "converter/graph.h"

namespace mpq::convert {

struct LayerBits {
  int weight = 8, activation = 8;  // activation: of the layer's input
};
using BitsMap = std::map<std::string, LayerBits>;  // by name of a Conv or Linear node; others: 8/8

// Every Conv and Linear at w/a, the first and the last one at 8/8.
BitsMap uniform_bits(const Graph& graph, int weight, int activation);

// Samples as the graph's input takes them: `count` times the input's elements, float, NCHW; of a
// sequence graph, sequences instead.
struct CalibrationData {
  std::span<const float> samples;
  uint32_t count = 0;
  const SequenceData* sequences = nullptr;
};

enum class StepRule : uint8_t { kMse, kPercentile, kMinMax };
enum class WeightRounding : uint8_t { kNearest, kCompensated };
// Per output channel, on the calibration samples: mean as in float; mean and deviation as in float
// (what re-estimating BatchNorm does); least-squares fit of the float output.
enum class OutputCorrection : uint8_t { kNone, kBias, kMoments, kLeastSquares };

struct PtqOptions {
  StepRule step = StepRule::kMse;
  double percentile = 99.99;  // of |x|, for kPercentile
  WeightRounding rounding = WeightRounding::kCompensated;
  OutputCorrection correction = OutputCorrection::kLeastSquares;
  double equalise = 0.5;   // 0: off; 1: every channel to the same range
  double damping = 0.01;   // of the mean diagonal of H
  double refit = 1.0;      // share of the least-squares refit of the weights; 0: off
  double held_out = 0.25;  // share of the samples that choose the refit's damping; 0: none
  int residual_bits = 8;
  bool quantise_words = true;  // of an embedding; else they stay float
  uint32_t batch = 32;         // samples evaluated together
  // Called when a layer is finished: how many of how many, its name. Returning false stops.
  std::function<bool(uint32_t done, uint32_t total, const std::string& layer)> progress;
};

// One Conv or Linear. Signal-to-noise ratios against the float network, in dB.
struct LayerReport {
  std::string name, op;
  LayerBits bits;
  uint64_t weights = 0, weight_bytes = 0, macs = 0;
  float input_step = 0.0F;
  int32_t input_zero_point = 0;
  double weight_sqnr = 0.0, input_sqnr = 0.0, output_sqnr = 0.0;
};

struct PtqReport {
  std::vector<LayerReport> layers;  // graph order
  double output_sqnr = 0.0;         // of the graph's output
  double top1_agreement = 0.0;      // share of its rows whose best class is the float one's
  double cosine = 0.0;              // mean of its rows with the float ones
};

// On an error the graph is left as it was.
Result<PtqReport> quantize(Graph* graph, const BitsMap& bits, const CalibrationData& calibration,
                           const PtqOptions& options);

}  // namespace mpq::convert
