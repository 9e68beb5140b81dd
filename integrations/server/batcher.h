// Dynamic batching: a queue of requests, and the sessions that run them.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "integrations/server/facts.h"
#include "integrations/server/failure.h"
#include "integrations/server/job.h"
#include "integrations/server/metrics.h"

namespace mpq::serve {

class Instance;

/// Requests of one model version. Those that wait together run together, as many samples as
/// max_batch_size (and tokens as max_batch_tokens) allow, the first priority level first, in order
/// of arrival within a level. A request is never divided. Any thread may call.
class Batcher {
 public:
  /// Plans all sessions; on failure nullptr and *why.
  static std::unique_ptr<Batcher> create(std::shared_ptr<const Facts> facts, std::string* why);
  /// As close().
  ~Batcher();

  /// Why submit() would refuse a job at once, or nothing.
  MaybeFailure refusal();
  /// Takes the job, or refuses it at once (queue full, closed). False: closed, the job is still the
  /// caller's.
  bool submit(JobPtr* job);
  /// Takes no more jobs, runs those it has, ends its threads.
  void close();

  uint64_t memory_bytes() const { return memory_bytes_; }
  Metrics& metrics() { return metrics_; }

 private:
  explicit Batcher(std::shared_ptr<const Facts> facts);
  void serve(Instance* instance);
  void drop_dead(Clock::time_point now, std::vector<JobPtr>* dead);
  std::vector<JobPtr> take(Clock::time_point now);
  bool is_full() const;
  bool is_full_batch() const;
  Clock::time_point oldest() const;

  std::shared_ptr<const Facts> facts_;
  Metrics metrics_;
  uint64_t memory_bytes_ = 0;
  std::vector<std::unique_ptr<Instance>> instances_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::deque<JobPtr>> levels_;  // by priority
  size_t waiting_ = 0, waiting_samples_ = 0, waiting_tokens_ = 0;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace mpq::serve
