#include "kernels/conv/conv.h"

#include "kernels/conv/rows.h"
#include "kernels/isa_config.h"

namespace mpq::kernels {
namespace {

// Bits of a signed weight type; a row of at least as many serves it.
constexpr int weight_bits(Elem e) { return e == Elem::s2 ? 2 : e == Elem::s4 ? 4 : 8; }

}  // namespace

std::span<const ConvKernel> conv_kernels() {
  static const ConvKernel kRows[] = {
#if MPQ_HAVE_AMX
    conv_u2s2_crt_amx,
    conv_u8s2_32x64_amx,
    conv_u8s4_32x64_amx,
    conv_u8s8_32x64_amx,
#endif
#if MPQ_HAVE_AVX512VNNI
    conv_u2s2_lookup_avx512vnni,
    conv_u2s2_crt_avx512vnni,
    conv_u4s2_crt_avx512vnni,
    conv_u2s4_crt_avx512vnni,
    conv_u2s2_winograd3_avx512vnni,
    conv_u20s4_winograd2_pairs_avx512vnni,
    conv_u42s4_winograd2_avx512vnni,
    conv_u63s4_strassen_avx512vnni,
    conv_u252s2_pairs_avx512vnni,
    conv_u240s4_pairs_avx512vnni,
    conv_u8s8_thin_avx512vnni,
    conv_u8s2_14x64_avx512vnni,
    conv_u8s4_14x64_avx512vnni,
    conv_u8s8_14x64_avx512vnni,
#endif
#if MPQ_HAVE_AVX2
    conv_u4s4_winograd2_avx2,
    conv_u2s2_base64_avx2,
    conv_u4s4_6x16_avx2,
    conv_u4s8_6x16_avx2,
    conv_u8s4_6x16_avx2,
    conv_u8s8_thin_avx2,
    conv_u8s8_4x16_avx2,
#endif
    conv_u8s8_ref,
  };
  return kRows;
}

bool conv_serves(const ConvKernel& row, const ConvShape& shape, uint32_t cb, Elem weights,
                 int32_t max_activation, IsaMask isa) {
  return (row.isa & ~isa) == 0 && weight_bits(row.weights) >= weight_bits(weights) &&
         row.max_activation >= max_activation && row.fits(shape, cb);
}

const ConvKernel& select_conv(const ConvShape& shape, uint32_t cb, Elem weights,
                              int32_t max_activation, IsaMask isa, CpuFamily family) {
  const std::span<const ConvKernel> rows = conv_kernels();
  const ConvKernel* best = &rows.back();
  float best_cost = best->cost(shape, cb, family);
  for (const ConvKernel& row : rows) {
    if (!conv_serves(row, shape, cb, weights, max_activation, isa)) continue;
    const float cost = row.cost(shape, cb, family);
    if (cost < best_cost || (cost == best_cost && &row < best)) {
      best = &row;
      best_cost = cost;
    }
  }
  return *best;
}

}  // namespace mpq::kernels
