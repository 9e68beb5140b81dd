// A profile's rows, and the machine they are set beside.
#pragma once

#include <string>
#include <vector>

#include "runtime/cli/baseline.h"

namespace mpq::cli {

struct Line {
  std::string name, op, bits, kernel;
  double seconds = 0.0;  // median of the runs; of groups: the sum of medians
  double least = 0.0;    // the same of the least
  uint64_t macs = 0, weight_bytes = 0, activation_bytes = 0, steps = 0, fallbacks = 0;
  Timing timing;                   // of single layers
  Change change;                   // against the baseline
  std::vector<uint64_t> counters;  // of one run, in the order of Profile::events; empty: none

  uint64_t bytes() const { return weight_bytes + activation_bytes; }
  double ops() const { return 2.0 * static_cast<double>(macs); }
  double tops() const { return seconds > 0 ? ops() / seconds * 1e-12 : 0.0; }
};

// The roofline model (Williams, Waterman and Patterson, 2009) with two levels of memory: weights
// come at the speed of a block as large as all of them together, which is how a run meets them;
// activations at that of a block that stays in the second level of caches.
struct Roof {
  double ops_per_second = 0.0, weight_bytes_per_second = 0.0, activation_bytes_per_second = 0.0;

  double compute_seconds(const Line& line) const {
    return ops_per_second > 0 ? line.ops() / ops_per_second : 0.0;
  }
  double memory_seconds(const Line& line) const {
    return static_cast<double>(line.weight_bytes) / weight_bytes_per_second +
           static_cast<double>(line.activation_bytes) / activation_bytes_per_second;
  }
  double floor_seconds(const Line& line) const {
    return std::max(compute_seconds(line), memory_seconds(line));
  }
};

struct Profile {
  std::string title;               // the model
  std::vector<std::string> facts;  // a line each
  std::vector<Line> lines;         // layers in the order of execution
  Stats run;
  Roof roof;
  std::vector<std::string> events;  // of Line::counters
  bool compares = false;            // with a baseline
};

/// One page with everything in it: facts, roofline plot, kinds of layers, layers.
Checked write_profile_page(const std::string& path, const Profile& profile);

}  // namespace mpq::cli
