#include "kernels/norm/norm.h"

#include "kernels/isa_config.h"
#include "kernels/norm/rows.h"
#include "kernels/select.h"

namespace mpq::kernels {

std::span<const LayerNormKernel> layer_norm_kernels() {
  static const LayerNormKernel kRows[] = {
#if MPQ_HAVE_AVX512VNNI
    layer_norm_f32_avx512vnni,
#endif
#if MPQ_HAVE_AVX2
    layer_norm_f32_avx2,
#endif
    layer_norm_f32_ref,
  };
  return kRows;
}

const LayerNormKernel& select_layer_norm(IsaMask isa) {
  return first_runnable(layer_norm_kernels(), isa);
}

}  // namespace mpq::kernels
