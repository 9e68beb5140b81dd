// What convolution and the matrix product share: one kernel family, its weights and its epilogue.
#pragma once

#include "runtime/ops/op.h"

namespace mpq::runtime {

// Plans a node as a convolution of `shape` whose tap (0, 0) of output (0, 0) lies `shift` bytes
// from pixel (0, 0) of its input.
Checked plan_dense(Planner&, uint32_t node, kernels::ConvShape shape, const format::Requant&,
                   ptrdiff_t shift);

}  // namespace mpq::runtime
