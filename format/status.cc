#include "format/status.h"

namespace mpq {

const char* to_string(Status status) {
  switch (status) {
    case Status::kOk:
      return "ok";
    case Status::kInvalidArgument:
      return "invalid argument";
    case Status::kNotFound:
      return "not found";
    case Status::kBusy:
      return "busy";
    case Status::kBadHandle:
      return "bad handle";
    case Status::kIo:
      return "input/output error";
    case Status::kCorrupt:
      return "corrupt";
    case Status::kChecksum:
      return "checksum mismatch";
    case Status::kUnsupported:
      return "unsupported";
    case Status::kOutOfMemory:
      return "out of memory";
    case Status::kLimit:
      return "limit exceeded";
    case Status::kUnsupportedCpu:
      return "unsupported CPU";
    case Status::kDevice:
      return "device error";
    case Status::kInternal:
      return "internal error";
  }
  return "unknown status";
}

}  // namespace mpq
