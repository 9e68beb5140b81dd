#include "kernels/math/lanes_scalar.h"
#include "kernels/math/map_rows.h"

namespace mpq::kernels {

const MapKernel map_f32_ref = map_kernel<ScalarLanes>("map_f32_ref", kIsaScalar);

}  // namespace mpq::kernels
