// Weights packed ahead of time, so that sessions copy instead of packing.
#pragma once

#include <cstddef>
#include <vector>

#include "format/model.h"
#include "format/status.h"
#include "kernels/cpu.h"

namespace mpq::runtime {

// The file of `model` with weights in the layouts of the kernels that a session of `isa`, batch 1
// and one thread uses, by the costs of CpuFamily::kIntel. Segments of other layouts stay; those of
// the same layout are made anew. The bytes do not depend on the machine, nor on the order in which
// layouts were added.
Result<std::vector<std::byte>> prepack(const format::Model& model, kernels::IsaMask isa);

}  // namespace mpq::runtime
