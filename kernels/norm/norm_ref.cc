#include "kernels/math/lanes_scalar.h"
#include "kernels/norm/rows.h"

namespace mpq::kernels {

const LayerNormKernel layer_norm_f32_ref = {"layer_norm_f32_ref", kIsaScalar,
                                            run_layer_norm<ScalarLanes>};

}  // namespace mpq::kernels
