// A measurement beside the JSON of an earlier one, on machines that are not quiet.
//
// What disturbs a run only makes it longer, so the least of many is compared. How far a least can
// be trusted, its samples say: the distance to their 10th percentile. A change within that of
// either side is noise, however small the limit.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include "runtime/cli/report.h"

namespace mpq::cli {

struct Timing {
  double least = 0.0, noise = 0.0;  // noise: of the least, at least 2 %
};
Timing timing_of(const Stats& stats);
Timing timing_of(const Json& distribution);  // as json_of(Stats) wrote it; all 0 if it did not

struct Change {
  double change = NAN;  // 0.05: 5 % slower; NAN: not in the baseline
  double noise = 0.0;   // the larger one
  bool slower(double limit) const { return change > std::max(limit, noise); }
  std::string text() const;  // "+3.1 %", "-" for NAN
};
Change change_between(const Timing& old, const Timing& now);

/// The document of --baseline; `list` is its array of rows ("results", "layers"). Errors:
/// unreadable, not the JSON of mpqrun `verb`.
Result<Json> load_baseline(const Args& args, const char* list);

/// --fail-above, infinite if not given. Errors: no --baseline.
Result<double> allowed_change(const Args& args);

}  // namespace mpq::cli
