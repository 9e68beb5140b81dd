// Compiled with the flags of AMX.

#include "tests/kernels/amx_on_model.h"

#include "kernels/attention/amx_head_avx512.h"
#include "kernels/conv/amx_crt_avx512.h"
#include "kernels/conv/amx_walk_avx512.h"
#include "tests/kernels/tile_model.h"

namespace mpq::test {
namespace {

using namespace kernels;

template <typename Tiles>
void multiply_on(TileProblem* p) {
  Tiles tiles;
  tiles.configure(p->config);
  tiles.template load<0>(p->sums, 64);
  tiles.template load<4>(p->codes, 64);
  tiles.template load<6>(p->weights, 64);
  if (p->is_signed)
    tiles.template multiply_signed<0, 4, 6>();
  else
    tiles.template multiply<0, 4, 6>();
  tiles.template store<0>(p->sums, 64);
  tiles.release();
}

}  // namespace

std::span<const ConvKernel> amx_rows_on_model() {
  static const ConvKernel kRows[] = {
      amx_crt_row<ModelTiles>("conv_u2s2_crt_amx_on_model", kIsaAvx512Vnni),
      amx_row<ModelTiles, 2>("conv_u8s2_32x64_amx_on_model", kIsaAvx512Vnni, Elem::s2,
                             "panel64_s2_v1"),
      amx_row<ModelTiles, 4>("conv_u8s4_32x64_amx_on_model", kIsaAvx512Vnni, Elem::s4,
                             "panel64_s4_v1"),
      amx_row<ModelTiles, 8>("conv_u8s8_32x64_amx_on_model", kIsaAvx512Vnni, Elem::s8,
                             "panel64_s8_v1"),
  };
  return kRows;
}

const AttentionKernel& amx_attention_on_model() {
  static const AttentionKernel kRow =
      attention_row<AmxHead<ModelTiles>>("attention_u8_amx_on_model", kIsaAvx512Vnni);
  return kRow;
}

void multiply_on_model(TileProblem* p) { multiply_on<ModelTiles>(p); }
void multiply_natively(TileProblem* p) { multiply_on<NativeTiles>(p); }

}  // namespace mpq::test
