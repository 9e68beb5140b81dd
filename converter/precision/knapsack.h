// The multiple-choice knapsack of precision selection: one choice (a precision) per item (a group
// of linked layers), greatest gain within a cost budget. Exact, by Pareto lists (Nemhauser and
// Ullmann): one run gives the best selection for every budget.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "format/status.h"

namespace mpq::convert::precision {

struct Choice {
  double cost = 0.0, gain = 0.0;  // finite; gains below 0 count as 0
};

// Choices in order of preference on ties: the higher precision first.
using Item = std::vector<Choice>;

// The set of selections that no other one beats: cost and gain strictly ascend. Sums of integers
// below 2^53 are exact, so costs in bit-MACs, bytes or nanoseconds have no rounding. Of selections
// equal in both, the one that prefers earlier items wins: the result depends on nothing but the
// input.
class Frontier {
 public:
  // kLimit when the lists would exceed max_states (24 bytes each); coarser costs are the remedy.
  static Result<Frontier> solve(std::span<const Item> items, size_t max_states = size_t{1} << 26);

  size_t size() const { return ends_.size(); }
  double cost(size_t point) const { return states_[ends_[point]].cost; }
  double gain(size_t point) const { return states_[ends_[point]].gain; }
  std::vector<uint8_t> choices(size_t point) const;  // per item: index into its choices

  // The last point within a budget; -1 when even the cheapest selection exceeds it.
  ptrdiff_t best(double budget) const;

 private:
  struct State {
    double cost = 0.0, gain = 0.0;
    uint32_t parent = 0;
    uint8_t choice = 0;
  };
  std::vector<State> states_;  // all lists, item after item; states_[0] is the empty selection
  std::vector<uint32_t> ends_;
  size_t items_ = 0;
};

// The fractional optimum: no selection within the budget gains more. -infinity when none fits.
double linear_bound(std::span<const Item> items, double budget);

}  // namespace mpq::convert::precision
