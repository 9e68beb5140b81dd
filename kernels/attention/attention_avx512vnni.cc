#include "kernels/attention/tiled.h"
#include "kernels/math/lanes_avx512.h"

namespace mpq::kernels {

const AttentionKernel attention_u8_avx512vnni = {"attention_u8_avx512vnni", kIsaAvx512Vnni,
                                                 attention_scratch_bytes<Avx512Lanes>,
                                                 run_attention<Avx512Lanes>};

}  // namespace mpq::kernels
