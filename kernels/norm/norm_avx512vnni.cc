#include "kernels/math/lanes_avx512.h"
#include "kernels/norm/rows.h"

namespace mpq::kernels {

const LayerNormKernel layer_norm_f32_avx512vnni = {"layer_norm_f32_avx512vnni", kIsaAvx512Vnni,
                                                   run_layer_norm<Avx512Lanes>};

}  // namespace mpq::kernels
