#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

#include "converter/precision/knapsack.h"

using namespace mpq::convert::precision;

namespace {

// Every selection, in the order of preference on ties: item 0 varies slowest.
struct Best {
  double cost = 0.0, gain = -1.0;
  std::vector<uint8_t> choices;
};
Best brute_force(const std::vector<Item>& items, double budget) {
  Best best;
  std::vector<uint8_t> choices(items.size(), 0);
  for (;;) {
    double cost = 0.0, gain = 0.0;
    for (size_t i = 0; i < items.size(); ++i) {
      cost += items[i][choices[i]].cost;
      gain += std::max(0.0, items[i][choices[i]].gain);
    }
    const bool better = gain > best.gain || (gain == best.gain && cost < best.cost);
    if (cost <= budget && better) best = {cost, gain, choices};
    size_t i = items.size();
    while (i > 0 && ++choices[i - 1] == items[i - 1].size()) choices[--i] = 0;
    if (i == 0) return best;
  }
}

std::vector<Item> random_items(std::mt19937& rng, size_t count, size_t choices, bool coarse) {
  std::vector<Item> items(count);
  for (Item& item : items)
    for (size_t c = 0; c < choices; ++c) {
      // Coarse numbers make ties; a negative gain counts as 0.
      const double cost =
          coarse ? static_cast<double>(rng() % 6) : static_cast<double>(rng() % 100000);
      const double gain =
          coarse ? static_cast<double>(rng() % 4) : static_cast<double>(rng() % 1000) / 8 - 5;
      item.push_back({cost, gain});
    }
  return items;
}

void compare(const std::vector<Item>& items) {
  const auto frontier = Frontier::solve(items);
  REQUIRE(frontier.ok());
  for (size_t point = 0; point < frontier->size(); ++point) {
    // At its own cost a point is the best; just below, it does not fit.
    for (const double budget : {frontier->cost(point), frontier->cost(point) - 0.5}) {
      const Best expected = brute_force(items, budget);
      const ptrdiff_t best = frontier->best(budget);
      REQUIRE_EQ(best >= 0, expected.gain >= 0.0);
      if (best < 0) continue;
      const auto at = static_cast<size_t>(best);
      CHECK_EQ(frontier->gain(at), expected.gain);
      CHECK_EQ(frontier->cost(at), expected.cost);
      CHECK_EQ(frontier->choices(at), expected.choices);
      CHECK_GE(linear_bound(items, budget), expected.gain - 1e-9);
    }
  }
}

}  // namespace

TEST_CASE("knapsack: every budget gets the brute-force optimum, ties included") {
  constexpr uint32_t kSeed = 20231;
  std::mt19937 rng(kSeed);
  for (int round = 0; round < 60; ++round) {
    INFO("seed ", kSeed, " round ", round);
    compare(random_items(rng, 1 + rng() % 7, 1 + rng() % 3, round % 2 == 0));
  }
}

TEST_CASE("knapsack: twenty groups of two precisions equal brute force") {
  std::mt19937 rng(7);
  const std::vector<Item> items = random_items(rng, 20, 2, false);
  const auto frontier = Frontier::solve(items);
  REQUIRE(frontier.ok());
  const double half = (frontier->cost(0) + frontier->cost(frontier->size() - 1)) / 2;
  const Best expected = brute_force(items, half);
  const ptrdiff_t best = frontier->best(half);
  REQUIRE(best >= 0);
  CHECK_EQ(frontier->gain(static_cast<size_t>(best)), expected.gain);
  CHECK_EQ(frontier->choices(static_cast<size_t>(best)), expected.choices);
}

TEST_CASE("knapsack: the frontier ascends strictly in cost and gain") {
  std::mt19937 rng(11);
  const auto frontier = Frontier::solve(random_items(rng, 30, 3, false));
  REQUIRE(frontier.ok());
  for (size_t i = 1; i < frontier->size(); ++i) {
    CHECK_GT(frontier->cost(i), frontier->cost(i - 1));
    CHECK_GT(frontier->gain(i), frontier->gain(i - 1));
  }
}

TEST_CASE("knapsack: the linear bound is exact where the fractional optimum takes no fraction") {
  // Efficiencies 3, 2, 1 per unit of cost: with budget 3 the first two items are whole.
  const std::vector<Item> items = {{{2, 6}, {0, 0}}, {{1, 2}, {0, 0}}, {{4, 4}, {0, 0}}};
  CHECK_EQ(linear_bound(items, 3.0), doctest::Approx(8.0));
  CHECK_EQ(linear_bound(items, 5.0), doctest::Approx(10.0));  // half of the third
  CHECK_EQ(linear_bound(items, 100.0), doctest::Approx(12.0));
  // A choice under the hull is never part of the bound: (1, 1) lies under the line from (0, 0) to
  // (2, 6).
  CHECK_EQ(linear_bound(std::vector<Item>{{{2, 6}, {1, 1}, {0, 0}}}, 1.0), doctest::Approx(3.0));
}

TEST_CASE("knapsack: what does not fit, has no choice or is not finite is said") {
  const std::vector<Item> items = {{{3, 1}, {2, 0}}};
  const auto frontier = Frontier::solve(items);
  REQUIRE(frontier.ok());
  CHECK_EQ(frontier->best(1.9), -1);
  CHECK_EQ(linear_bound(items, 1.9), -std::numeric_limits<double>::infinity());
  CHECK_FALSE(Frontier::solve(std::vector<Item>{{}}).ok());
  CHECK_FALSE(Frontier::solve(std::vector<Item>{{{NAN, 1}}}).ok());
  CHECK_EQ(Frontier::solve(std::vector<Item>(40, {{1, 1}, {0, 0}}), 50).error().code,
           mpq::Status::kLimit);
}
