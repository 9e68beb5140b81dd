// A launch, its arrays and what must come out: run on every architecture, in any order of threads,
// with or without a planted fault.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/kernels.h"
#include "tests/cuda/device.h"
#include "tests/cuda/emulated.h"

namespace mpq::test {

struct Expected {
  std::string name;
  uint8_t* at;
  std::vector<uint8_t> bytes, mask;  // bits that matter
  uint8_t initial;                   // what it holds before
};

struct CudaProblem {
  std::string text;  // the case, for messages
  Device device;
  Launch launch;                // kernel and shared_bytes by architecture
  std::vector<uint8_t> params;  // the struct
  uint32_t shared_bytes = 0, shared_bytes_sm75 = 0;
  std::vector<Expected> expected;

  template <typename Params>
  void set_params(const Params& p) {
    params.resize(sizeof p);
    std::memcpy(params.data(), &p, sizeof p);
  }
  // A launch of one of kOtherKernels.
  template <typename Params>
  void launch_other(const char* name, const Params& p);
  // An array of outputs of which all bytes matter.
  template <typename T>
  T* expect(std::string name, const std::vector<T>& values, uint8_t initial = 0xEE);
  // Codes, [pixel][channel].
  cuda::Codes expect_codes(std::string name, const std::vector<uint8_t>& codes, uint32_t channels,
                           uint32_t bits);
  cuda::Codes upload_codes(const std::vector<uint8_t>& codes, uint32_t channels, uint32_t bits);
};

template <typename T>
T* CudaProblem::expect(std::string name, const std::vector<T>& values, uint8_t initial) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  uint8_t* at = device.allocate(bytes.size());
  std::vector<uint8_t> mask(bytes.size(), 0xFF);
  expected.push_back({std::move(name), at, std::move(bytes), std::move(mask), initial});
  return reinterpret_cast<T*>(at);
}

template <typename Params>
void CudaProblem::launch_other(const char* name, const Params& p) {
  const cuda::Grid grid = cuda::grid_of(p);
  for (const cuda::OtherKernel& k : cuda::kOtherKernels)
    if (std::string_view(name) == k.name) {
      launch = {name, nullptr, nullptr, grid.x, grid.y, grid.z, k.threads, 0};
      shared_bytes = shared_bytes_sm75 = k.shared_bytes;
    }
  set_params(p);
}

// The first output that is not what was expected, or nothing.
std::string difference(const CudaProblem&);

// What is wrong, or nothing. The counters go to *counters unless null.
std::string run_problem(CudaProblem&, const Architecture&, const LaunchOptions&,
                        Counters* counters = nullptr);

// run_problem on every architecture, copies early, late and at random, in two orders of threads.
// Fails the doctest case with the first message.
void require_everywhere(CudaProblem&);

}  // namespace mpq::test
