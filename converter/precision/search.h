// From a network to a precision map: scores, costs, budget, solver.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "converter/precision/cost.h"
#include "converter/precision/eagl.h"
#include "converter/precision/groups.h"
#include "converter/precision/knapsack.h"
#include "converter/train/images.h"
#include "format/model.h"

namespace mpq::convert::precision {

// How the number of a budget is meant. C_high and C_low: all selectable groups at the highest and
// the lowest precision.
enum class BudgetForm {
  kFraction,     // number * C_high
  kInterpolate,  // C_low + number * (C_high - C_low)
  kAbsolute,     // in units of the cost model
};

struct SearchOptions {
  std::string method = "eagl";     // a name of selector.h
  std::vector<int> bits = {4, 2};  // choices, descending
  int activation_bits = 0;         // of selectable layers; 0: as their weights
  int fixed_bits = 8;              // of the first and the last layer
  bool count_fixed = false;        // their cost is part of the budget
  CostModel cost = CostModel::kBmac;
  CostTable table;
  BudgetForm form = BudgetForm::kFraction;
  double budget = 0.75;
  EaglOptions eagl;
  uint64_t seed = 0;
  // Of selectors that look at what the network does (selector.h).
  const train::ImageSet* images = nullptr;
  size_t samples = 256;  // of the images
  size_t probes = 16;    // random directions of a trace
  size_t steps = 60;     // of training
  std::string file;      // gains measured elsewhere
  // "PATTERN=BITS": groups with a layer of that name (or re:regex) are not a matter of choice.
  std::vector<std::pair<std::string, int>> pins;
};

struct FrontierPoint {
  double budget = 0.0, cost = 0.0, gain = 0.0, bound = 0.0;  // budget: cost as a fraction of C_high
  std::vector<uint8_t> bits;                                 // per group
};

struct SearchResult {
  format::PrecisionMap map;
  Selection selection;
  std::vector<double> layer_entropy;                   // of methods that look at weights
  double cost = 0.0, cost_high = 0.0, cost_low = 0.0;  // of what the budget counts
  std::vector<FrontierPoint> frontier;                 // of methods that solve a knapsack
};

// Names of the methods, for help and did-you-mean.
std::vector<std::string> search_methods();

Result<SearchResult> search(const Graph& graph, const SearchOptions& options);

}  // namespace mpq::convert::precision
