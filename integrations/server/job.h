// One request on its way through the queue.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "integrations/server/failure.h"

namespace mpq::serve {

using Clock = std::chrono::steady_clock;

struct Job {
  uint32_t samples = 0;  // images, or sequences
  // Tensor models: each input's samples one behind the other, inside `source` or `owned`.
  std::vector<std::span<const std::byte>> inputs;
  std::shared_ptr<const void> source;  // what the client sent
  std::vector<std::vector<std::byte>> owned;
  // Sequence models.
  std::vector<int32_t> ids, types;
  std::vector<uint32_t> lengths;

  uint32_t priority = 1;  // 1 runs first
  Clock::time_point arrived, deadline = Clock::time_point::max();
  std::shared_ptr<std::atomic<bool>> cancelled;  // the client is gone
  std::string trace;                             // W3C traceparent, for the log

  // The answer: each output's rows, one behind the other.
  std::vector<std::vector<std::byte>> outputs;
  uint64_t queue_us = 0, compute_us = 0;

  /// Called once, from any thread. The job is the callee's.
  std::function<void(std::unique_ptr<Job>, MaybeFailure)> done;
};

using JobPtr = std::unique_ptr<Job>;

/// Hands a job back with what became of it.
inline void finish(JobPtr job, MaybeFailure failure) {
  auto done = std::move(job->done);
  done(std::move(job), std::move(failure));
}

}  // namespace mpq::serve
