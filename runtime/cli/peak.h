// How many 8-bit operations a second the multiply units can do: the ceiling that profiles refer to.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mpq::cli {

// Measured in some tens of milliseconds with `threads` threads at once; a multiply-accumulate is
// two operations. The instruction is the best that mpq's kernels of the level use: tdpbusd on full
// tiles for amx, vpdpbusd with 512 bits for avx512vnni, vpmaddubsw + vpmaddwd + vpaddd with 256
// bits for avx2. 0 for scalar: there is no meaningful peak.
double peak_ops_per_second(uint32_t isa_mask, uint32_t threads);

// How many bytes a second `threads` threads read together from a block of this size, again and
// again, each its own part of it (memchr). Measured for a tenth of a second, the best of many.
double read_bytes_per_second(size_t block_bytes, uint32_t threads);

}  // namespace mpq::cli
