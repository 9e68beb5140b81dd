// Counters of one model version, and their text for Prometheus. Any thread may count.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>

namespace mpq::serve {

/// Cumulative histogram with fixed bounds. `Scale`: units of observe() in one unit of the text.
template <size_t N>
class Histogram {
 public:
  explicit constexpr Histogram(const std::array<uint64_t, N>& bounds) : bounds_(bounds) {}
  void observe(uint64_t value, uint64_t times = 1) {
    size_t i = 0;
    while (i < N && value > bounds_[i]) ++i;
    counts_[i].fetch_add(times, std::memory_order_relaxed);
    sum_.fetch_add(value * times, std::memory_order_relaxed);
  }
  uint64_t sum() const { return sum_.load(std::memory_order_relaxed); }
  uint64_t count() const {
    uint64_t total = 0;
    for (const auto& count : counts_) total += count.load(std::memory_order_relaxed);
    return total;
  }
  /// Lines of the text format; values are divided by `unit`.
  void print(const std::string& name, const std::string& labels, double unit,
             std::string* text) const;

 private:
  std::array<uint64_t, N> bounds_;
  std::array<std::atomic<uint64_t>, N + 1> counts_{};
  std::atomic<uint64_t> sum_{0};
};

// Microseconds, from 100 us to 10 s.
inline constexpr std::array<uint64_t, 16> kTimeBounds = {
    100,   250,    500,    1000,   2500,    5000,    10000,   25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};
inline constexpr std::array<uint64_t, 9> kBatchBounds = {1, 2, 4, 8, 16, 32, 64, 128, 256};

/// How a request ended.
enum class Ended { kOk, kInvalid, kQueueFull, kExpired, kCancelled, kFailed };
inline constexpr std::array<const char*, 6> kEndedNames = {"ok",      "invalid",   "queue_full",
                                                           "expired", "cancelled", "failed"};

struct Metrics {
  std::array<std::atomic<uint64_t>, kEndedNames.size()> requests{};
  std::atomic<uint64_t> samples{0}, runs{0};
  std::atomic<uint64_t> pending{0};  // in the queue
  std::atomic<uint64_t> last_inference_ms{0};
  Histogram<kTimeBounds.size()> request{kTimeBounds}, queue{kTimeBounds}, compute{kTimeBounds};
  Histogram<kBatchBounds.size()> batch{kBatchBounds};

  void count(Ended how) { requests[static_cast<size_t>(how)].fetch_add(1); }
};

/// A version's counters and what it is called.
struct NamedMetrics {
  std::string model, version;
  const Metrics* metrics;
  uint64_t memory_bytes;
};

/// The whole page.
std::string prometheus_text(std::span<const NamedMetrics> models);

}  // namespace mpq::serve
