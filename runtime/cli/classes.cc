#include "runtime/cli/classes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "converter/data/read_file.h"
#include "runtime/cli/text.h"

namespace mpq::cli {

double element(const std::byte* data, mpq_dtype dtype, size_t i) {
  if (dtype == MPQ_F32) {
    float value = 0.0F;
    std::memcpy(&value, data + i * sizeof value, sizeof value);
    return static_cast<double>(value);
  }
  if (dtype == MPQ_S32) {
    int32_t value = 0;
    std::memcpy(&value, data + i * sizeof value, sizeof value);
    return value;
  }
  return std::to_integer<uint8_t>(data[i]);
}

std::vector<ClassScore> best_classes(const std::byte* data, mpq_dtype dtype, size_t classes,
                                     size_t k) {
  std::vector<double> values(classes);
  for (size_t i = 0; i < classes; ++i) values[i] = element(data, dtype, i);
  std::vector<size_t> order(classes);
  std::iota(order.begin(), order.end(), size_t{0});
  k = std::min(k, classes);
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(k), order.end(),
                    [&](size_t a, size_t b) {
                      return values[a] > values[b] || (values[a] == values[b] && a < b);
                    });
  double sum = 0.0;
  if (k != 0)
    for (const double value : values) sum += std::exp(value - values[order[0]]);
  std::vector<ClassScore> best;
  for (size_t i = 0; i < k; ++i) {
    const double value = values[order[i]];
    best.push_back(
        {order[i], value, dtype == MPQ_F32 ? std::exp(value - values[order[0]]) / sum : -1.0});
  }
  return best;
}

Result<std::vector<std::string>> class_names(const Model& model, const Args& args) {
  const std::string path = args.text("labels");
  if (path.empty()) return model.labels();
  MPQ_TRY(const std::vector<std::byte> bytes, data::read_file(path));
  std::vector<std::string> names;
  for (const std::string& line :
       split({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, '\n'))
    names.emplace_back(trim(line));
  while (!names.empty() && names.back().empty()) names.pop_back();
  return names;
}

}  // namespace mpq::cli
