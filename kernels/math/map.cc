#include "kernels/math/map.h"

#include "kernels/isa_config.h"
#include "kernels/math/map_rows.h"

namespace mpq::kernels {

std::span<const MapKernel> map_kernels() {
  static const MapKernel kRows[] = {
#if MPQ_HAVE_AVX512VNNI
    map_f32_avx512vnni,
#endif
#if MPQ_HAVE_AVX2
    map_f32_avx2,
#endif
    map_f32_ref,
  };
  return kRows;
}

}  // namespace mpq::kernels
