#include "runtime/cli/baseline.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "runtime/cli/text.h"

namespace mpq::cli {

namespace {

constexpr double kTrusted = 10.0, kLeastNoise = 0.02;
constexpr size_t kMany = 10;  // fewer have no 10th percentile: their median stands in

Timing timing(double least, double low) {
  if (!(least > 0.0)) return {};
  return {least, std::max(low / least - 1.0, kLeastNoise)};
}

}  // namespace

Timing timing_of(const Stats& stats) {
  return timing(stats.min * 1e9, stats.percentile(stats.n < kMany ? 50.0 : kTrusted) * 1e9);
}

Timing timing_of(const Json& distribution) {
  if (!distribution.is_object()) return {};
  const double least = distribution.value("min", 0.0);
  const double median = distribution.value("median", least);
  return timing(least, distribution.value("n", size_t{0}) < kMany
                           ? median
                           : distribution.value("p10", median));
}

std::string Change::text() const {
  return std::isnan(change) ? "-" : format("%+.1f %%", change * 100);
}

Change change_between(const Timing& old, const Timing& now) {
  if (!(old.least > 0.0) || !(now.least > 0.0)) return {};
  return {now.least / old.least - 1.0, std::max(old.noise, now.noise)};
}

Result<Json> load_baseline(const Args& args, const char* list) {
  const std::string path = args.text("baseline");
  std::ifstream file(path);
  if (!file) return Error{Status::kIo, path + ": cannot be read"};
  Json document = Json::parse(file, nullptr, false);
  if (document.is_discarded() || !document.is_object() || !document.contains(list) ||
      !document[list].is_array())
    return Error{Status::kCorrupt, path + ": not the JSON of mpqrun " + mode_name(args.mode())};
  return document;
}

Result<double> allowed_change(const Args& args) {
  if (!args.has("fail-above")) return static_cast<double>(INFINITY);
  if (!args.has("baseline"))
    return Error{Status::kInvalidArgument, "--fail-above: needs --baseline FILE"};
  return args.percent("fail-above");
}

}  // namespace mpq::cli
