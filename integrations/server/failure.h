// Why a request got no result: an HTTP status and a text for the client, which holds no path, no
// address and nothing of memory.
#pragma once

#include <optional>
#include <string>

namespace mpq::serve {

struct Failure {
  unsigned status = 500;
  std::string message;
};

using MaybeFailure = std::optional<Failure>;

}  // namespace mpq::serve
