// gRPC's methods: messages in, messages out, without HTTP/2.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "integrations/server/api.h"

namespace mpq::serve {

/// Codes of gRPC that are sent from here.
enum class GrpcCode : unsigned {
  kOk = 0,
  kCancelled = 1,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kResourceExhausted = 8,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kUnauthenticated = 16,
};

struct GrpcStatus {
  GrpcCode code = GrpcCode::kOk;
  std::string message;
};

/// One message of a call.
struct GrpcCall {
  std::string message;
  std::optional<std::string> authorization;
  std::string trace;  // traceparent
  std::shared_ptr<std::atomic<bool>> cancelled;
  Clock::time_point deadline;
};

/// Called once a message, from any thread; the message is "" when the status is not OK.
using GrpcReply = std::function<void(GrpcStatus, std::string message)>;

struct GrpcMethod {
  std::string path;
  bool infers;   // messages as large as a model's inputs, for those who have the token
  bool streams;  // any number of messages, each with its reply
  std::function<void(Api*, GrpcCall, GrpcReply)> serve;
};

/// nullptr: there is none.
const GrpcMethod* find_grpc_method(std::string_view path);

}  // namespace mpq::serve
