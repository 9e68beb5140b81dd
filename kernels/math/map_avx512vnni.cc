#include "kernels/math/lanes_avx512.h"
#include "kernels/math/map_rows.h"

namespace mpq::kernels {

const MapKernel map_f32_avx512vnni = map_kernel<Avx512Lanes>("map_f32_avx512vnni", kIsaAvx512Vnni);

}  // namespace mpq::kernels
