// A network as launches of the CUDA kernels: what a plan for a GPU has of it, without the data.
#pragma once

#include <string>
#include <vector>

#include "format/model.h"
#include "kernels/cuda/choose.h"
#include "tests/cuda/device.h"

namespace mpq::test {

// How much goes through the network at once.
struct Load {
  uint32_t batch = 1;   // images, or sequences
  uint32_t tokens = 0;  // of a sequence
};

// What a launch reads or writes of a tensor, for the caches.
struct Touch {
  format::TensorId tensor;
  uint64_t bytes;
};

struct Step {
  std::string layer;
  const char* kernel = "";
  cuda::Grid grid;
  uint32_t threads = 0, shared_bytes = 0, shared_bytes_sm75 = 0;
  uint32_t splits = 1;
  uint64_t macs = 0, rows = 0;  // rows: pixels or tokens of the output
  std::vector<Touch> touches;
  std::vector<uint8_t> params;  // the kernel's struct
  // Arrays of zeros for the pointers of params, when they were asked for.
  std::shared_ptr<Device> device;

  uint64_t blocks() const { return uint64_t{grid.x} * grid.y * grid.z; }
};

// The launches of a node, most often one. With arrays only if `arrays`: meant for small loads. A
// convolution is launched as `choice` says, if it is not null.
std::vector<Step> steps_of(const format::Model&, const format::Node&, const Load&, const cuda::Gpu&,
                           const cuda::ConvChoice* choice, bool arrays);

// The same network with codes of 8 bits everywhere. Weights are those of the other: of no use.
format::Model widened(const format::Model&);

}  // namespace mpq::test
