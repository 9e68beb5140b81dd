// Which kernel convolves, and into how many parts of k: for whoever launches, and for the model of
// speed (tests/cuda/model), so that both mean the same launch.
#pragma once

#include <cstdint>

#include "kernels/cuda/kernels.h"

namespace mpq::cuda {

struct Gpu {
  uint32_t arch = 80;       // 89 for compute capability 8.9
  uint32_t processors = 1;  // streaming multiprocessors
};

struct ConvChoice {
  const ConvKernel* kernel =
      nullptr;          // null: no kernel has these widths, or not with an activation
  uint32_t splits = 1;  // ConvParams::splits
};

// The fastest launch of a convolution by an estimate of its clocks: the blocks that one
// multiprocessor gets, each the time of its products or, where few blocks share a multiprocessor,
// the latency of its stages; then its epilogue, and the joining of parts. Reads of `p` the
// geometry, k_steps and the epilogue's activation, no pointers. Thread-safe.
ConvChoice choose_conv(const Gpu&, uint32_t a_bits, uint32_t w_bits, const ConvParams& p);

}  // namespace mpq::cuda
