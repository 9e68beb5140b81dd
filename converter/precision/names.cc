#include "converter/precision/names.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace mpq::convert::precision {
namespace {

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replace = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replace});
    }
  }
  return row.back();
}

}  // namespace

std::string suggestion(const std::string& wrong, std::span<const std::string> names) {
  size_t best = std::max<size_t>(2, wrong.size() / 3) + 1;
  const std::string* nearest = nullptr;
  for (const std::string& name : names) {
    const size_t distance = edit_distance(wrong, name);
    if (distance >= best) continue;
    best = distance;
    nearest = &name;
  }
  return nearest == nullptr ? "" : ", did you mean '" + *nearest + "'?";
}

}  // namespace mpq::convert::precision
