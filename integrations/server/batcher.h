// Dynamic batching: a queue of requests, and the sessions that run them.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
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
/// of arrival within a level. A request is never divided. With preserve_ordering what was computed
/// is handed back in the order of arrival, too; refusals and time-outs never wait for others. Any
/// thread may call.
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
  struct Size {
    size_t samples = 0, tokens = 0;
  };
  // Jobs that ran together, and what became of them.
  struct Done {
    std::vector<JobPtr> jobs;
    MaybeFailure failure;
  };

  explicit Batcher(std::shared_ptr<const Facts> facts);
  void serve(Instance* instance);
  void drop_dead(Clock::time_point now, std::vector<JobPtr>* dead);
  std::vector<JobPtr> next_batch(std::unique_lock<std::mutex>* lock, std::vector<JobPtr>* dead);
  std::vector<JobPtr> take(Clock::time_point now, size_t most_samples);
  void leave(const Job& job);
  bool add(const Job& job, Size* batch) const;
  size_t preferred() const;
  bool is_full(size_t level) const;
  bool is_full_batch() const;
  Clock::time_point oldest() const;
  void hand_back(uint64_t turn, Done done);

  std::shared_ptr<const Facts> facts_;
  Metrics metrics_;
  uint64_t memory_bytes_ = 0;
  std::vector<std::unique_ptr<Instance>> instances_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::deque<JobPtr>> levels_;  // by priority
  size_t waiting_ = 0;
  Size waiting_size_;
  size_t enough_samples_;  // a run does not wait for more
  bool closed_ = false;
  // preserve_ordering: batches have turns, those that are done wait for theirs.
  std::map<uint64_t, Done> done_;
  uint64_t next_turn_ = 0, turn_ = 0;
  bool answering_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace mpq::serve
