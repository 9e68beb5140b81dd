// The choice in families whose rows differ in the instruction set and nothing else.
#pragma once

#include <span>

#include "kernels/cpu.h"

namespace mpq::kernels {

// The first row that `isa` can run. The last one, the reference, asks for nothing.
template <typename Row>
const Row& first_runnable(std::span<const Row> rows, IsaMask isa) {
  for (const Row& row : rows)
    if ((row.isa & ~isa) == 0) return row;
  return rows.back();
}

}  // namespace mpq::kernels
