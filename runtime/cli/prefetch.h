// Samples decoded by worker threads while the network runs, handed out in order.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/cli/inputs.h"

namespace mpq::cli {

class Prefetch {
 public:
  // The source must outlive this. At most `window` decoded samples wait.
  Prefetch(const SampleSource& source, uint32_t threads, size_t window);
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;
  ~Prefetch();

  // Sample 0, 1, 2, ... of the source; call at most source.size() times.
  Result<Sample> next();

 private:
  void work();

  const SampleSource& source_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<Result<Sample>>> ring_;  // slot of sample i: i % size
  size_t taken_ = 0, started_ = 0;                   // samples handed out; being or done decoding
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace mpq::cli
