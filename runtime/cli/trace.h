// The runs of a profile as a timeline, in Chrome's trace event format: chrome://tracing and
// Perfetto (ui.perfetto.dev) show it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/cli/report.h"

namespace mpq::cli {

struct TracedRun {
  double start = 0.0, seconds = 0.0;  // start: from the first run's
  std::vector<double> steps;          // seconds of each
};

/// Writes the runs; a span a run, and inside it one a step with what is known of the step. The
/// library measures how long steps take, not when they begin: they stand one behind the other from
/// the run's start, and what lies between them is the rest at its end.
Checked write_trace(const std::string& path, std::span<const TracedRun> runs,
                    std::span<const mpq_step_info> steps, const std::string& model);

}  // namespace mpq::cli
