// HTTP/1.1, with or without TLS, in front of an Api.
#pragma once

#include <chrono>
#include <memory>

#include "integrations/server/api.h"
#include "integrations/server/listener.h"

namespace mpq::serve {

struct HttpOptions {
  bool metrics_only = false;  // GET /metrics and nothing else
  std::chrono::seconds header_timeout{10}, body_timeout{30}, idle_timeout{60}, write_timeout{30};
};

/// Serves HTTP on the threads that run `io`.
std::shared_ptr<Listener> http_listener(boost::asio::io_context* io, Api* api,
                                        ListenerOptions listener, HttpOptions options);

}  // namespace mpq::serve
