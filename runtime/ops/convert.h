// Changes of form: codes between planes and the caller's row-major order, floats from [n][h][w][c]
// to it.
#pragma once

#include "kernels/quantize/quantize.h"
#include "runtime/ops/op.h"

namespace mpq::runtime {

// Codes: dims and planes are in `codes`, whose dense side is the caller's order.
struct ConvertStep {
  kernels::PackArgs codes;
  uint8_t max_code = 255;  // higher codes from outside count as this one
  // Floats and sums.
  const std::byte* source = nullptr;
  std::byte* destination = nullptr;
};

// One unit.
void canonical_to_planes(const void* args, const kernels::ConvPart&, const kernels::KernelContext&);
void planes_to_canonical(const void* args, const kernels::ConvPart&, const kernels::KernelContext&);
void dense_to_canonical(const void* args, const kernels::ConvPart&, const kernels::KernelContext&);

}  // namespace mpq::runtime
