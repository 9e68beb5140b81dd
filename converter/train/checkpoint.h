// The state of a run on disk: whole or not at all, checksummed, bound to what it is the state of.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "format/sha256.h"
#include "format/status.h"

namespace mpq::convert::train {

struct Snapshot {
  format::Digest run = {};  // of everything that decides the run's course
  uint64_t step = 0;
  std::vector<double> numbers;
  std::vector<std::vector<float>> tensors;
};

Checked write_checkpoint(const std::string& path, const Snapshot& checkpoint);

// Nothing when there is no such file. A file that is damaged, or of another run, is an error: it
// may be the result of days.
Result<std::optional<Snapshot>> read_checkpoint_of(const std::string& path,
                                                   const format::Digest& run);

}  // namespace mpq::convert::train
