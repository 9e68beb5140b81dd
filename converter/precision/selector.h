// What chooses precisions: a score for every group and a knapsack over the scores, or an order in
// which groups are lowered. One row a selector; a file each.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "converter/precision/search.h"

namespace mpq::convert::precision {

struct Question {
  const Graph& graph;
  const Selection& selection;
  const SearchOptions& options;

  // Of the layers of a group at one choice; the ends have one width, other groups may have
  // activations of a width of their own.
  Bits at(const Group& group, int bits) const;
};

struct Scores {
  // By group and choice of options.bits: what it gains over the lowest precision, which gains 0.
  std::vector<std::vector<double>> gain;
  std::vector<double> standard_error;  // by group, of the first choice; empty: not known
  std::vector<double> layer_entropy;   // of selectors that compute it
  bool trained_codes = true;           // the network came with codes of the first choice
  std::string method;                  // of gains that were measured elsewhere
};

enum class Needs : uint8_t { kNothing, kImages, kFile };

struct Selector {
  const char* name;
  const char* what;
  Needs needs;
  Result<Scores> (*score)(const Question&);                   // a knapsack over these, or
  std::vector<size_t> (*order)(size_t units, uint64_t seed);  // units lowered in this order
};
std::span<const Selector> selectors();
// By name; the error suggests the nearest one and lists all.
Result<const Selector*> find_selector(const std::string& name);

// eagl.cc: entropy of the codes of weights.
Result<Scores> score_eagl(const Question& question);
// hawq.cc: trace of the loss's Hessian in the weights, times their mean squared error (HAWQ-V2 and
// V3, arXiv 1911.03852, 2011.10680).
Result<Scores> score_hawq(const Question& question);
// fit.cc: trace of the Fisher information in weights and activations, times their noise (FIT, arXiv
// 2210.08502).
Result<Scores> score_fit(const Question& question);
// sqnr.cc: noise over signal of weights, and of activations where there are images.
Result<Scores> score_sqnr(const Question& question);
// lsq_step.cc: the steps that LSQ learns at each precision (arXiv 2203.08368).
Result<Scores> score_lsq_step(const Question& question);
// gains.cc: a file of gains measured elsewhere, among them ALPS's.
Result<Scores> score_file(const Question& question);
// baselines.cc: every group the same gain; positions; chance.
Result<Scores> score_constant(const Question& question);
std::vector<size_t> first_to_last(size_t units, uint64_t seed);
std::vector<size_t> last_to_first(size_t units, uint64_t seed);
std::vector<size_t> random_order(size_t units, uint64_t seed);

// ---- what selectors share (selector.cc)

// Harm done by each precision, [layer][choice], to gains of groups: the sum over their members of
// the lowest precision's harm less the choice's.
using Harm = std::vector<std::vector<double>>;
std::vector<std::vector<double>> gains_of(const Question& question, const Harm& harm);

// Mean squared error of a layer's real weights at a width by the search's rule; 0 where its own
// codes are of that width or of a smaller one.
double weight_noise(const Question& question, const Layer& layer, int bits);
// Mean squared error of a tensor on the grid that quantisation without training starts from.
double activation_noise(std::span<const float> x, int bits);
double mean_square(std::span<const float> x);

}  // namespace mpq::convert::precision
