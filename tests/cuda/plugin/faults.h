// Mistakes of whoever calls the driver, played by the driver of the tests: a call that was
// forgotten, a launch that does not fit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mpq::test {

struct DriverFault {
  enum Kind : uint32_t {
    kNone,
    kNoUpload,    // the index-th copy to the GPU is forgotten
    kNoDownload,  // the index-th copy from it
    kNoFill,      // memory is not 0 at first
    kNoUpdate,    // the index-th kernel of a graph keeps its parameters
    kNoOrder,     // launches of a graph do not wait for each other
    kNoLaunch,    // the index-th launch of the kernel is forgotten
    kGrid,        // one block less in it
    kShared,      // 16 bytes less of shared memory
    kParameter,   // `add` to the 32-bit word at `offset` of its parameters
  };
  Kind kind = kNone;
  const char* kernel = "";  // how its name begins
  size_t index = 0;
  size_t offset = 0;
  uint32_t add = 1;
};

}  // namespace mpq::test

extern "C" void mpq_fake_cuda_plant(const mpq::test::DriverFault*);
using mpq_fake_cuda_plant_fn = void (*)(const mpq::test::DriverFault*);
