// Hardware counters of this process, by perf_event_open(2): what the kernel and the machine grant,
// and no number for what they do not.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mpq::cli {

struct CounterEvent {
  const char* name;  // "cycles", as in JSON
  uint32_t type;     // PERF_TYPE_...
  uint64_t config;
};

/// Cycles, instructions, misses of the second and of the last level of caches, in user mode. The
/// second level's event is the maker's; makers whose event is not known have none.
std::vector<CounterEvent> hardware_events();

class Counters {
 public:
  /// Opens the events for this thread and for the threads that it starts from now on. Those that
  /// are refused are missing from events(), and why() says so: "l2_misses: No such file...".
  explicit Counters(std::span<const CounterEvent> wanted);
  Counters(const Counters&) = delete;
  Counters& operator=(const Counters&) = delete;
  ~Counters();

  const std::vector<CounterEvent>& events() const { return events_; }
  const std::string& why() const { return why_; }  // "" when nothing is missing
  /// Counts so far, in the order of events(), all threads together.
  std::vector<uint64_t> read();
  bool shared() const { return shared_; }  // counted only part of the time: others use them, too

 private:
  std::vector<CounterEvent> events_;
  std::vector<int> files_;
  std::string why_;
  bool shared_ = false;
};

}  // namespace mpq::cli
