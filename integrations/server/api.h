// The Open Inference Protocol (v2), without what carries it: requests in, answers out.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "integrations/server/infer.h"
#include "integrations/server/job.h"
#include "integrations/server/metrics.h"

namespace mpq::serve {

class Repository;
struct Served;

/// As HTTP has it.
struct Request {
  std::string method, target, body;
  std::optional<std::string> json_bytes;  // Inference-Header-Content-Length
  std::optional<std::string> authorization;
  std::string trace;                             // traceparent
  std::shared_ptr<std::atomic<bool>> cancelled;  // set when the client is gone
};

struct Response {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::optional<size_t> json_bytes;
  bool retry_after = false;
};

/// One inference, whatever carries it.
struct Inference {
  std::string model, version;  // version "": the newest
  std::optional<std::string> authorization;
  std::string trace;                                      // traceparent
  std::shared_ptr<std::atomic<bool>> cancelled;           // set when the client is gone
  std::shared_ptr<const void> source;                     // what the job's inputs may point into
  Clock::time_point deadline = Clock::time_point::max();  // of the client
  /// Sets the job's inputs. Called again when the model was replaced in between.
  std::function<MaybeFailure(const Facts&, Job*, Wanted*)> read;
};

/// What came of it.
struct Inferred {
  std::shared_ptr<const Facts> facts;
  Wanted wanted;
  JobPtr job;
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
  /// Calls `done` once, with a failure or with what came of it: at once, or later from another
  /// thread.
  void infer(Inference inference, std::function<void(MaybeFailure, Inferred)> done);
  /// Whether this value of Authorization will do.
  bool authorized(const std::optional<std::string>& authorization) const;
  /// The largest body that a request to this target may have.
  uint64_t body_limit(const std::string& target) const;
  /// The same for any infer request.
  uint64_t largest_body() const;
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
  Response answer(const Request& request, const Target& target);
  Response control(const Request& request, const Target& target);
  void infer(Request request, const Target& target, std::function<void(Response)> done);
  void finished(const MaybeFailure& failure, const Inferred& inferred, Metrics* metrics) const;
  Response statistics(const std::vector<std::shared_ptr<Served>>& served) const;

  Repository* repository_;
  ApiOptions options_;
  std::atomic<bool> draining_{false}, refusing_{false};
  std::atomic<size_t> active_{0};
};

}  // namespace mpq::serve
