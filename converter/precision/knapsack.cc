#include "converter/precision/knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace mpq::convert::precision {
namespace {

double clamped(double gain) { return std::max(gain, 0.0); }

struct Segment {
  double cost = 0.0, gain = 0.0;  // of going one step up an item's upper convex hull
};

// The upper convex hull of an item's choices as steps of falling efficiency, from its cheapest
// choice.
void append_hull(const Item& item, Choice* cheapest, std::vector<Segment>* steps) {
  std::vector<Choice> sorted;
  for (const Choice& choice : item) sorted.push_back({choice.cost, clamped(choice.gain)});
  std::sort(sorted.begin(), sorted.end(), [](const Choice& a, const Choice& b) {
    return a.cost != b.cost ? a.cost < b.cost : a.gain > b.gain;
  });
  std::vector<Choice> hull;
  for (const Choice& choice : sorted) {
    if (!hull.empty() && choice.gain <= hull.back().gain) continue;  // dominated
    const auto below = [&] {  // the last point lies on or under the line to the new one
      const Choice &a = hull[hull.size() - 2], &b = hull.back();
      return (b.gain - a.gain) * (choice.cost - a.cost) <=
             (choice.gain - a.gain) * (b.cost - a.cost);
    };
    while (hull.size() >= 2 && below()) hull.pop_back();
    hull.push_back(choice);
  }
  *cheapest = hull.front();
  for (size_t i = 1; i < hull.size(); ++i)
    steps->push_back({hull[i].cost - hull[i - 1].cost, hull[i].gain - hull[i - 1].gain});
}

}  // namespace

Result<Frontier> Frontier::solve(std::span<const Item> items, size_t max_states) {
  Frontier frontier;
  frontier.items_ = items.size();
  std::vector<State>& states = frontier.states_;
  states.push_back({});
  size_t begin = 0, end = 1;  // the list of the items so far

  // Of two states equal in cost and gain: the one with the lower choice at the earliest item that
  // differs.
  const auto preferred = [&](const State& a, const State& b) {
    bool a_wins = a.choice < b.choice;
    for (uint32_t i = a.parent, j = b.parent; i != j; i = states[i].parent, j = states[j].parent)
      if (states[i].choice != states[j].choice) a_wins = states[i].choice < states[j].choice;
    return a_wins;
  };

  std::vector<State> candidates;
  for (size_t index = 0; index < items.size(); ++index) {
    const Item& item = items[index];
    if (item.empty() || item.size() > std::numeric_limits<uint8_t>::max())
      return Error{Status::kInvalidArgument, "item " + std::to_string(index) + " has " +
                                                 std::to_string(item.size()) + " choices"};
    for (const Choice& choice : item)
      if (!std::isfinite(choice.cost) || !std::isfinite(choice.gain))
        return Error{Status::kInvalidArgument,
                     "item " + std::to_string(index) + ": cost or gain not finite"};
    if (states.size() + (end - begin) * item.size() > max_states)
      return Error{Status::kLimit, "the frontier exceeds " + std::to_string(max_states) +
                                       " states at item " + std::to_string(index) +
                                       "; use coarser costs"};
    candidates.clear();
    for (size_t c = 0; c < item.size(); ++c)
      for (size_t i = begin; i < end; ++i)
        candidates.push_back({states[i].cost + item[c].cost, states[i].gain + clamped(item[c].gain),
                              static_cast<uint32_t>(i), static_cast<uint8_t>(c)});
    std::sort(candidates.begin(), candidates.end(), [&](const State& a, const State& b) {
      if (a.cost != b.cost) return a.cost < b.cost;
      if (a.gain != b.gain) return a.gain > b.gain;
      return preferred(a, b);
    });
    begin = states.size();
    for (const State& candidate : candidates)
      if (states.size() == begin || candidate.gain > states.back().gain)
        states.push_back(candidate);
    end = states.size();
  }
  for (size_t i = begin; i < end; ++i) frontier.ends_.push_back(static_cast<uint32_t>(i));
  return frontier;
}

std::vector<uint8_t> Frontier::choices(size_t point) const {
  std::vector<uint8_t> chosen(items_);
  uint32_t state = ends_[point];
  for (size_t i = items_; i-- > 0; state = states_[state].parent) chosen[i] = states_[state].choice;
  return chosen;
}

ptrdiff_t Frontier::best(double budget) const {
  const auto after = std::partition_point(
      ends_.begin(), ends_.end(), [&](uint32_t state) { return states_[state].cost <= budget; });
  return after - ends_.begin() - 1;
}

double linear_bound(std::span<const Item> items, double budget) {
  double gain = 0.0;
  std::vector<Segment> steps;
  for (const Item& item : items) {
    Choice cheapest;
    append_hull(item, &cheapest, &steps);
    budget -= cheapest.cost;
    gain += cheapest.gain;
  }
  if (budget < 0.0) return -std::numeric_limits<double>::infinity();
  std::stable_sort(steps.begin(), steps.end(), [](const Segment& a, const Segment& b) {
    return a.gain * b.cost > b.gain * a.cost;
  });
  for (const Segment& step : steps) {
    if (step.cost > budget) return gain + step.gain * (budget / step.cost);
    budget -= step.cost;
    gain += step.gain;
  }
  return gain;
}

}  // namespace mpq::convert::precision
