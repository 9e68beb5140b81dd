#include "tests/cuda/problem.h"

#include <doctest/doctest.h>

#include <algorithm>

namespace mpq::test {

void (*emulated(const Architecture& arch, std::string_view name))(const void*) {
  for (const EmulatedKernel& k : arch.kernels())
    if (name == k.name) return k.run;
  return nullptr;
}

cuda::Codes CudaProblem::expect_codes(std::string name, const std::vector<uint8_t>& codes,
                                      uint32_t channels, uint32_t bits) {
  const std::vector<uint8_t> all(codes.size(), static_cast<uint8_t>((1U << bits) - 1));
  std::vector<uint8_t> bytes = pack_pixels(codes, channels, bits, false);
  uint8_t* at = device.allocate(bytes.size());
  expected.push_back(
      {std::move(name), at, std::move(bytes), pack_pixels(all, channels, bits, false), 0xEE});
  return {at, code_pitch(channels, bits), bits};
}

cuda::Codes CudaProblem::upload_codes(const std::vector<uint8_t>& codes, uint32_t channels,
                                      uint32_t bits) {
  return {device.upload(pack_pixels(codes, channels, bits)), code_pitch(channels, bits), bits};
}

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
  for (const Expected& e : p.expected)
    for (size_t i = 0; i < e.bytes.size(); ++i)
      if ((e.at[i] & e.mask[i]) != (e.bytes[i] & e.mask[i]))
        return std::string(p.launch.name) + ": " + e.name + ": byte " + std::to_string(i) + " is " +
               std::to_string(e.at[i] & e.mask[i]) + ", not " +
               std::to_string(e.bytes[i] & e.mask[i]);
  return {};
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
