#include "runtime/cli/prefetch.h"

#include <algorithm>

namespace mpq::cli {

Prefetch::Prefetch(const SampleSource& source, uint32_t threads, size_t window)
    : source_(source), ring_(std::max<size_t>(window, 1)) {
  for (uint32_t i = 0; i < std::max(threads, 1U); ++i) workers_.emplace_back([this] { work(); });
}

Prefetch::~Prefetch() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Prefetch::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] {
      return stop_ || started_ == source_.size() || started_ < taken_ + ring_.size();
    });
    if (stop_ || started_ == source_.size()) return;
    const size_t index = started_++;
    lock.unlock();
    Result<Sample> sample = source_.get(index);
    lock.lock();
    ring_[index % ring_.size()] = std::move(sample);
    changed_.notify_all();
  }
}

Result<Sample> Prefetch::next() {
  std::unique_lock lock(mutex_);
  std::optional<Result<Sample>>& slot = ring_[taken_ % ring_.size()];
  changed_.wait(lock, [&slot] { return slot.has_value(); });
  Result<Sample> sample = *std::move(slot);
  slot.reset();
  ++taken_;
  changed_.notify_all();
  return sample;
}

}  // namespace mpq::cli
