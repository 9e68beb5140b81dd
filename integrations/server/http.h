// HTTP/1.1, with or without TLS, in front of an Api.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "integrations/server/api.h"

namespace mpq::serve {

struct HttpOptions {
  std::vector<std::string> addresses = {"127.0.0.1", "::1"};
  uint16_t port = 8000;
  size_t max_connections = 1024;
  boost::asio::ssl::context* tls = nullptr;  // null: none
  bool metrics_only = false;                 // GET /metrics and nothing else
  std::chrono::seconds header_timeout{10}, body_timeout{30}, idle_timeout{60}, write_timeout{30};
};

/// Accepts connections and serves them on the threads that run `io`. More than max_connections, or
/// more than descriptors allow, are accepted and closed.
class HttpServer {
 public:
  HttpServer(boost::asio::io_context* io, Api* api, HttpOptions options);
  ~HttpServer();
  /// What is wrong, or "".
  std::string listen();
  /// The port that was bound (options.port 0: any free one).
  uint16_t port() const;
  /// No new connections; those that are idle are closed, others after their answer.
  void stop();
  size_t connections() const;

  class Impl;  // of http.cc

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace mpq::serve
