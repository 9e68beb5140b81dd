#include "converter/precision/search.h"

#include <algorithm>
#include <cmath>
#include <regex>

#include "converter/precision/names.h"
#include "converter/precision/selector.h"

namespace mpq::convert::precision {
namespace {

Error invalid(const std::string& what) { return Error{Status::kInvalidArgument, what}; }

// One group of the search: what it may be and what that costs.
struct Unit {
  uint32_t group = 0;
  std::vector<int> bits;     // descending
  std::vector<double> cost;  // per entry of bits
  std::vector<double> gain;  // per entry of bits; the lowest precision gains 0
};

using Selected = std::vector<uint8_t>;  // per unit: index into its bits

struct Problem {
  Question question;
  std::vector<Unit> units;  // the selectable groups
  double budget = 0.0;      // for them
};

double total_cost(const std::vector<Unit>& units, const Selected& selected) {
  double sum = 0.0;
  for (size_t i = 0; i < units.size(); ++i) sum += units[i].cost[selected[i]];
  return sum;
}

Selected lower_in_order(const Problem& problem, const std::vector<size_t>& order) {
  Selected selected(problem.units.size(), 0);
  for (uint8_t step = 1; step < problem.question.options.bits.size(); ++step)
    for (const size_t unit : order) {
      if (total_cost(problem.units, selected) <= problem.budget) return selected;
      if (step < problem.units[unit].bits.size()) selected[unit] = step;
    }
  return selected;
}

std::vector<Item> items_of(const std::vector<Unit>& units) {
  std::vector<Item> items;
  for (const Unit& unit : units) {
    Item item;
    for (size_t b = 0; b < unit.bits.size(); ++b) item.push_back({unit.cost[b], unit.gain[b]});
    items.push_back(std::move(item));
  }
  return items;
}

// ---- setting up

Result<double> group_cost(const Question& question, const Group& group, int bits) {
  double sum = 0.0;
  for (const uint32_t layer : group.layers) {
    MPQ_TRY(const double cost,
            layer_cost(question.selection.layers[layer], question.at(group, bits),
                       question.options.cost, question.options.table));
    sum += cost;
  }
  return sum;
}

Checked check_options(const SearchOptions& options) {
  if (options.bits.empty()) return invalid("no precisions to choose from");
  for (size_t i = 0; i < options.bits.size(); ++i) {
    const int bits = options.bits[i];
    if (bits != 2 && bits != 4 && bits != 8)
      return invalid(std::to_string(bits) + " bits, expected 8, 4 or 2");
    if (i > 0 && bits >= options.bits[i - 1])
      return invalid("precisions must descend, as in 8,4,2");
  }
  if (options.activation_bits != 0 && options.cost == CostModel::kBmac)
    return invalid("bmac costs the wider of weights and activations: with activations of " +
                   std::to_string(options.activation_bits) +
                   " bits choose by bytes, bops, latency or energy");
  if (!std::isfinite(options.budget) || options.budget < 0.0)
    return invalid("the budget is no number of at least 0");
  return Ok{};
}

// Bits of each group that is no matter of choice, or 0.
Result<std::vector<int>> pinned_bits(const Selection& selection, const SearchOptions& options) {
  std::vector<int> pinned;
  for (const Group& group : selection.groups)
    pinned.push_back(group.fixed ? options.fixed_bits : 0);
  std::vector<std::string> names;
  for (const Layer& layer : selection.layers) names.push_back(layer.name);
  for (const auto& [pattern, bits] : options.pins) {
    const bool is_regex = pattern.starts_with("re:");
    std::regex regex;
    try {  // the only way to learn that a pattern is malformed
      if (is_regex) regex.assign(pattern.substr(3));
    } catch (const std::regex_error& error) {
      return invalid("pin '" + pattern + "': " + error.what());
    }
    bool found = false;
    for (const Layer& layer : selection.layers) {
      if (is_regex ? !std::regex_match(layer.name, regex) : layer.name != pattern) continue;
      pinned[layer.group] = bits;
      found = true;
    }
    if (!found)
      return invalid("pin: no layer matches '" + pattern + "'" + suggestion(pattern, names));
  }
  return pinned;
}

// Costs of every group, and the groups that are a matter of choice.
Checked set_up(const std::vector<int>& pinned, Problem* problem, SearchResult* result,
               double* fixed_cost) {
  const SearchOptions& options = problem->question.options;
  result->map.groups.resize(pinned.size());
  for (uint32_t g = 0; g < pinned.size(); ++g) {
    const Group& group = problem->question.selection.groups[g];
    format::MapGroup& row = result->map.groups[g];
    row.fixed = pinned[g] != 0;
    if (row.fixed) {
      if (!options.count_fixed) continue;  // needs no entry in a measured table
      MPQ_TRY(row.cost_high, group_cost(problem->question, group, pinned[g]));
      row.cost_low = row.cost_high;
      *fixed_cost += row.cost_high;
    } else {
      Unit unit{.group = g,
                .bits = options.bits,
                .cost = {},
                .gain = std::vector<double>(options.bits.size())};
      for (const int choice : options.bits) {
        MPQ_TRY(const double cost, group_cost(problem->question, group, choice));
        unit.cost.push_back(cost);
      }
      row.cost_high = unit.cost.front();
      row.cost_low = unit.cost.back();
      problem->units.push_back(std::move(unit));
    }
    result->cost_high += row.cost_high;
    result->cost_low += row.cost_low;
  }
  return Ok{};
}

double allowed_cost(const SearchOptions& options, const SearchResult& result) {
  switch (options.form) {
    case BudgetForm::kFraction:
      return options.budget * result.cost_high;
    case BudgetForm::kInterpolate:
      return result.cost_low + options.budget * (result.cost_high - result.cost_low);
    case BudgetForm::kAbsolute:
      break;
  }
  return options.budget;
}

// The frontier, and its best point within the budget (nothing when none fits).
Result<Selected> solve_knapsack(const Problem& problem, const std::vector<int>& pinned,
                                double fixed_cost, SearchResult* result) {
  const std::vector<Item> items = items_of(problem.units);
  MPQ_TRY(const Frontier frontier, Frontier::solve(items));
  for (size_t point = 0; point < frontier.size(); ++point) {
    FrontierPoint& row = result->frontier.emplace_back();
    row.cost = frontier.cost(point) + fixed_cost;
    row.budget = result->cost_high > 0.0 ? row.cost / result->cost_high : 1.0;
    row.gain = frontier.gain(point);
    row.bound = linear_bound(items, frontier.cost(point));
    row.bits.assign(pinned.begin(), pinned.end());
    const std::vector<uint8_t> choices = frontier.choices(point);
    for (size_t i = 0; i < problem.units.size(); ++i)
      row.bits[problem.units[i].group] = static_cast<uint8_t>(problem.units[i].bits[choices[i]]);
  }
  result->map.solver = "pareto-dp";
  result->map.bound = linear_bound(items, problem.budget);
  const ptrdiff_t best = frontier.best(problem.budget);
  if (best < 0) return Selected{};
  result->map.value = frontier.gain(static_cast<size_t>(best));
  return frontier.choices(static_cast<size_t>(best));
}

Error nothing_fits(const SearchResult& result, const SearchOptions& options, double allowed) {
  return invalid("no selection fits: the budget is " + std::to_string(allowed) + " " +
                 to_string(options.cost) + ", the lowest precision everywhere costs " +
                 std::to_string(result.cost_low) + " (" +
                 std::to_string(result.cost_high > 0 ? result.cost_low / result.cost_high : 1.0) +
                 " of the highest)");
}

}  // namespace

Result<SearchResult> search(const Graph& graph, const SearchOptions& options) {
  MPQ_TRY(const Selector* const selector, find_selector(options.method));
  MPQ_CHECK(check_options(options));
  SearchResult result;
  MPQ_TRY(result.selection, Selection::of(graph));
  const Selection& selection = result.selection;
  MPQ_TRY(const std::vector<int> pinned, pinned_bits(selection, options));
  Problem problem{{graph, selection, options}, {}, 0.0};
  double fixed_cost = 0.0;
  MPQ_CHECK(set_up(pinned, &problem, &result, &fixed_cost));
  const double allowed = allowed_cost(options, result);
  problem.budget = allowed * (1.0 + 0.5e-12) - fixed_cost;  // slack: 0.75 * C is no exact number

  Selected selected;
  Scores scores;
  if (selector->score != nullptr) {
    MPQ_TRY(scores, selector->score(problem.question));
    for (Unit& unit : problem.units) unit.gain = scores.gain[unit.group];
    for (size_t g = 0; g < scores.standard_error.size(); ++g)
      result.map.groups[g].gain_stderr = pinned[g] == 0 ? scores.standard_error[g] : 0.0;
    MPQ_TRY(selected, solve_knapsack(problem, pinned, fixed_cost, &result));
  } else {
    result.map.solver = "in-order";
    selected = lower_in_order(problem, selector->order(problem.units.size(), options.seed));
    if (total_cost(problem.units, selected) > problem.budget) selected.clear();
  }
  if (selected.size() != problem.units.size()) return nothing_fits(result, options, allowed);

  std::vector<int> bits = pinned;
  result.cost = fixed_cost + total_cost(problem.units, selected);
  for (size_t i = 0; i < problem.units.size(); ++i) {
    const Unit& unit = problem.units[i];
    bits[unit.group] = unit.bits[selected[i]];
    result.map.groups[unit.group].gain = unit.gain.front();
  }
  result.map.method = scores.method.empty() ? options.method : scores.method;
  result.map.cost_model = to_string(options.cost);
  result.map.checkpoint = scores.trained_codes ? "trained" : "ptq";
  result.map.budget = result.cost_high > 0.0 ? allowed / result.cost_high : 1.0;
  result.map.seed = options.seed;
  for (const Layer& layer : selection.layers) {
    const Bits chosen = problem.question.at(selection.groups[layer.group], bits[layer.group]);
    result.map.layers.push_back({layer.name, static_cast<uint8_t>(chosen.weight),
                                 static_cast<uint8_t>(chosen.activation), layer.group});
  }
  result.layer_entropy = std::move(scores.layer_entropy);
  return result;
}

}  // namespace mpq::convert::precision
