#include "runtime/cli/exit_code.h"

namespace mpq::cli {

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
