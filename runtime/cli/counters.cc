#include "runtime/cli/counters.h"

#include <cpuid.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "runtime/cli/text.h"

namespace mpq::cli {

namespace {

// Misses of the second level. Intel: L2_RQSTS.MISS (Skylake and later, Software Developer's Manual
// volume 3, events). AMD: requests of the first level that missed (Zen 2 and later, PMCx064 of the
// Processor Programming Reference).
struct MakersEvent {
  const char* maker;
  uint64_t config;
};
constexpr MakersEvent kL2Misses[] = {{"GenuineIntel", 0x3f24}, {"AuthenticAMD", 0x0964}};

std::string maker() {
  unsigned highest = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &highest, &b, &c, &d) == 0) return "";
  char text[13] = {};
  for (const auto& [at, word] : {std::pair{0, b}, {4, d}, {8, c}}) std::memcpy(text + at, &word, 4);
  return text;
}

std::string reason(int error) {
  std::string text = std::strerror(error);
  if (error == ENOENT || error == EOPNOTSUPP) return text + " (this machine does not count it)";
  if (error != EACCES && error != EPERM) return text;
  std::ifstream file("/proc/sys/kernel/perf_event_paranoid");
  std::string level;
  std::getline(file, level);
  return text + " (kernel.perf_event_paranoid is " + (level.empty() ? "unknown" : level) + ")";
}

}  // namespace

std::vector<CounterEvent> hardware_events() {
  std::vector<CounterEvent> events = {
      {"cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
      {"instructions", PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
      {"l3_misses", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES}};
  for (const MakersEvent& row : kL2Misses)
    if (maker() == row.maker)
      events.insert(events.end() - 1, {"l2_misses", PERF_TYPE_RAW, row.config});
  return events;
}

Counters::Counters(std::span<const CounterEvent> wanted) {
  for (const CounterEvent& event : wanted) {
    perf_event_attr attr{};
    attr.size = sizeof attr;
    attr.type = event.type;
    attr.config = event.config;
    attr.inherit = 1;
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    attr.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
    const auto file =
        static_cast<int>(syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
    if (file < 0) {
      why_ += (why_.empty() ? "" : "; ") + (event.name + (": " + reason(errno)));
      continue;
    }
    events_.push_back(event);
    files_.push_back(file);
  }
}

Counters::~Counters() {
  for (const int file : files_) close(file);
}

std::vector<uint64_t> Counters::read() {
  std::vector<uint64_t> counts;
  for (const int file : files_) {
    struct {
      uint64_t count, enabled, running;
    } now{};
    if (::read(file, &now, sizeof now) != sizeof now) now = {};
    shared_ = shared_ || now.running != now.enabled;
    counts.push_back(now.count);
  }
  return counts;
}

}  // namespace mpq::cli
