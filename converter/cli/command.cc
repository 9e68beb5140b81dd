#include "converter/cli/command.h"

namespace mpq::convert::cli {

Exit exit_of(Status status) {
  switch (status) {
    case Status::kOk:
      return Exit::kSuccess;
    case Status::kInvalidArgument:
      return Exit::kUsage;
    case Status::kNotFound:
    case Status::kIo:
      return Exit::kIo;
    case Status::kCorrupt:
      return Exit::kCorrupt;
    case Status::kUnsupported:
    case Status::kUnsupportedCpu:
      return Exit::kUnsupported;
    case Status::kOutOfMemory:
    case Status::kLimit:
      return Exit::kLimit;
    case Status::kChecksum:
      return Exit::kDigest;
    default:
      return Exit::kFailure;
  }
}

}  // namespace mpq::convert::cli
