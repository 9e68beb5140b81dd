// Packed products (kernels/conv/crt.h) made from chosen sums and decoded by the vectors of AVX-512.
#pragma once

#include <cstdint>

namespace mpq::test {

// They need AVX-512. Each packs one set of sums in plain integers and decodes it; true when every
// sum comes back.
bool crt_pair_returns(const int32_t sums[3]);
bool crt_triple_returns(const int32_t sums[4]);
bool crt_pair_of_triples_returns(const int32_t sums[4][3]);  // [v][i]

}  // namespace mpq::test
