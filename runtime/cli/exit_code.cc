#include "runtime/cli/exit_code.h"

namespace mpq::cli {

namespace {

constexpr ExitMeaning kMeanings[] = {
    {kExitOk, "done", "success"},
    {kExitFailure, "failed", "failure not named here"},
    {kExitUsage, "usage", "usage error"},
    {kExitFile, "no such file", "file not found, unreadable or unwritable"},
    {kExitCorrupt, "corrupt", "model or input corrupt, or not of this format"},
    {kExitUnsupported, "unsupported", "valid, but needs what this build or machine lacks"},
    {kExitAccuracy, "accuracy gate", "accuracy, comparison or reference gate failed"},
    {kExitSpeed, "speed gate", "speed gate failed (--fail-above)"},
    {kExitLimit, "memory or limit", "out of memory, or a limit"},
    {kExitDevice, "device", "device not available"},
    {kExitDigest, "digest", "digest mismatch"},
    {kExitInterrupted, "interrupted", "interrupted by SIGINT; what is known was printed"},
    {kExitTerminated, "terminated", "ended by SIGTERM; what is known was printed"},
};

}  // namespace

std::span<const ExitMeaning> exit_meanings() { return kMeanings; }

ExitCode exit_code(Status status) {
  switch (status) {
    case Status::kOk:
      return kExitOk;
    case Status::kInvalidArgument:
      return kExitUsage;
    case Status::kNotFound:
    case Status::kIo:
      return kExitFile;
    case Status::kCorrupt:
      return kExitCorrupt;
    case Status::kChecksum:
      return kExitDigest;
    case Status::kUnsupported:
    case Status::kUnsupportedCpu:
      return kExitUnsupported;
    case Status::kOutOfMemory:
    case Status::kLimit:
      return kExitLimit;
    case Status::kDevice:
      return kExitDevice;
    case Status::kBusy:
    case Status::kBadHandle:
    case Status::kInternal:
      return kExitFailure;
  }
  return kExitFailure;
}

}  // namespace mpq::cli
