// The Open Inference Protocol (v2) over HTTP, without HTTP: requests in, answers out.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mpq::serve {

class Repository;
struct Served;

struct Request {
  std::string method, target, body;
  std::optional<std::string> json_bytes;  // Inference-Header-Content-Length
  std::optional<std::string> authorization;
  std::shared_ptr<std::atomic<bool>> cancelled;  // set when the client is gone
};

struct Response {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::optional<size_t> json_bytes;
  bool retry_after = false;
};

struct ApiOptions {
  bool model_control = false;  // load and unload by request
  bool log_requests = false;
  std::string token;  // "": none is asked for
};

class Api {
 public:
  Api(Repository* repository, ApiOptions options)
      : repository_(repository), options_(std::move(options)) {}

  /// Calls `done` once: at once, or later from another thread.
  void handle(Request request, std::function<void(Response)> done);
  /// The largest body that a request to this target may have.
  uint64_t body_limit(const std::string& target) const;
  /// The page for Prometheus.
  std::string metrics() const;

  /// From now on: not ready.
  void drain() { draining_.store(true); }
  /// From now on: no new inference.
  void refuse() { refusing_.store(true); }
  /// Requests that are being computed or wait.
  size_t active() const { return active_.load(); }

 private:
  struct Target;
  static Target parse(const std::string& target);
  bool may_pass(const Request& request) const;
  Response answer(const Request& request, const Target& target);
  Response control(const Request& request, const Target& target);
  void infer(Request request, const Target& target, std::function<void(Response)> done);
  Response statistics(const std::vector<std::shared_ptr<Served>>& served) const;

  Repository* repository_;
  ApiOptions options_;
  std::atomic<bool> draining_{false}, refusing_{false};
  std::atomic<size_t> active_{0};
};

}  // namespace mpq::serve
