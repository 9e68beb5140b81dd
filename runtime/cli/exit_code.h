// What the process says to its caller. The values are documented and never change.
#pragma once

#include <span>

#include "format/status.h"

namespace mpq::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,
  kExitUsage = 2,
  kExitFile = 3,         // not found, unreadable, unwritable
  kExitCorrupt = 4,      // model or input damaged, or not of this format
  kExitUnsupported = 5,  // valid, but needs what this build or machine lacks
  kExitAccuracy = 6,
  kExitSpeed = 7,
  kExitLimit = 8,
  kExitDevice = 9,
  kExitDigest = 10,
  kExitInterrupted = 130,
  kExitTerminated = 143,
};

ExitCode exit_code(Status status);

struct ExitMeaning {
  ExitCode code;
  const char* brief;    // for --help
  const char* meaning;  // for the manual page
};
std::span<const ExitMeaning> exit_meanings();

}  // namespace mpq::cli
