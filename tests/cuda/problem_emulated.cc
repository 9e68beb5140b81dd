// Problems on the emulator.
#include <doctest/doctest.h>

#include "tests/cuda/problem.h"

namespace mpq::test {

std::string run_problem(CudaProblem& p, const Architecture& arch, const LaunchOptions& options,
                        Counters* counters) {
  for (const Expected& e : p.expected) std::memset(e.at, e.initial, e.bytes.size());
  p.launch.kernel = emulated(arch, p.launch.name);
  if (p.launch.kernel == nullptr) return std::string("no kernel ") + p.launch.name;
  p.launch.params = p.params.data();
  p.launch.shared_bytes = arch.arch < 80 ? p.shared_bytes_sm75 : p.shared_bytes;
  const Outcome outcome = run(p.launch, p.device.memory, options);
  if (counters != nullptr) *counters = outcome.counters;
  if (!outcome.error.empty()) return outcome.error;
  return difference(p);
}

void require_everywhere(CudaProblem& p) {
  for (const Architecture& arch : kArchitectures)
    for (const Copies copies : {Copies::kEarly, Copies::kLate, Copies::kRandom}) {
      if (arch.arch < 80 && copies == Copies::kRandom) continue;  // only atomics are late there
      LaunchOptions options;
      options.copies = copies;
      options.seed = copies == Copies::kEarly ? 0 : 1 + static_cast<uint64_t>(copies);
      const std::string wrong = run_problem(p, arch, options);
      INFO("sm_" << arch.arch << " " << p.text);
      REQUIRE(wrong == "");
    }
}

}  // namespace mpq::test
