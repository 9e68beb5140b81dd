// How many 8-bit operations a second the multiply units can do: the ceiling that profiles refer to.
#pragma once

#include <cstdint>

namespace mpq::cli {

// Measured in some tens of milliseconds with `threads` threads at once; a multiply-accumulate is
// two operations. The instruction is the best that mpq's kernels of the level use: tdpbusd on full
// tiles for amx, vpdpbusd with 512 bits for avx512vnni, vpmaddubsw + vpmaddwd + vpaddd with 256
// bits for avx2. 0 for scalar: there is no meaningful peak.
double peak_ops_per_second(uint32_t isa_mask, uint32_t threads);

}  // namespace mpq::cli
