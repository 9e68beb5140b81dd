// Where the lanes that a branch separates come together again.
#pragma once

#include <vector>

#include "tests/cuda/ptx/program.h"

namespace mpq::ptx {

// Sets `reconverge` of every branch to the first instruction of its immediate post-dominator:
// the nearest block that every path from the branch to an exit passes; code->size() if only the
// end of the kernel is. False if a branch leaves the code. Method: Cooper, Harvey, Kennedy,
// "A Simple, Fast Dominance Algorithm", on the reversed graph.
bool find_reconvergence(std::vector<Inst>* code);

}  // namespace mpq::ptx
