#include "kernels/math/lanes_avx2.h"
#include "kernels/norm/rows.h"

namespace mpq::kernels {

const LayerNormKernel layer_norm_f32_avx2 = {"layer_norm_f32_avx2", kIsaAvx2,
                                             run_layer_norm<Avx2Lanes>};

}  // namespace mpq::kernels
