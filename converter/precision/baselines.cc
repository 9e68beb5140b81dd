// What a selector has to beat: no score at all.
#include <algorithm>
#include <numeric>

#include "converter/precision/selector.h"
#include "converter/random.h"

namespace mpq::convert::precision {

Result<Scores> score_constant(const Question& question) {
  const std::vector<int>& bits = question.options.bits;
  Scores scores;
  scores.gain.resize(question.selection.groups.size());
  for (std::vector<double>& gain : scores.gain)
    for (const int choice : bits) gain.push_back(choice - bits.back());
  return scores;
}

std::vector<size_t> first_to_last(size_t units, uint64_t) {
  std::vector<size_t> order(units);
  std::iota(order.begin(), order.end(), size_t{0});
  return order;
}

std::vector<size_t> last_to_first(size_t units, uint64_t seed) {
  std::vector<size_t> order = first_to_last(units, seed);
  std::reverse(order.begin(), order.end());
  return order;
}

std::vector<size_t> random_order(size_t units, uint64_t seed) {
  std::vector<size_t> order = first_to_last(units, seed);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[next_random(&seed) % i]);
  return order;
}

}  // namespace mpq::convert::precision
