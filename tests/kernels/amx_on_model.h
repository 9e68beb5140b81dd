// The AMX rows on the tests' model of tiles, for machines without AMX; and the processor's tiles,
// to be compared with the model.
#pragma once

#include <span>

#include "kernels/attention/attention.h"
#include "kernels/conv/conv.h"
#include "kernels/tiles_amx.h"

namespace mpq::test {

// They need AVX-512.
std::span<const kernels::ConvKernel> amx_rows_on_model();
const kernels::AttentionKernel& amx_attention_on_model();

// sums[16][16] += codes[16][64] * weights[16][64] on tiles of a size, codes unsigned or signed.
struct TileProblem {
  kernels::TileConfig config;
  int32_t sums[16][16];
  uint8_t codes[16][64];
  int8_t weights[16][64];
  bool is_signed = false;
};
void multiply_on_model(TileProblem*);
void multiply_natively(TileProblem*);  // needs AMX

}  // namespace mpq::test
