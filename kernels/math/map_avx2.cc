#include "kernels/math/lanes_avx2.h"
#include "kernels/math/map_rows.h"

namespace mpq::kernels {

const MapKernel map_f32_avx2 = map_kernel<Avx2Lanes>("map_f32_avx2", kIsaAvx2);

}  // namespace mpq::kernels
