// What both pools share.
#pragma once

#include "kernels/pool/pool.h"
#include "runtime/ops/range_step.h"

namespace mpq::runtime {

// Adds the step with everything but its outputs.
kernels::PoolArgs& add_pool_step(Planner&, uint32_t node, kernels::PoolKind, kernels::PoolShape);

}  // namespace mpq::runtime
