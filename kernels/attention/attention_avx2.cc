#include "kernels/attention/tiled.h"
#include "kernels/math/lanes_avx2.h"

namespace mpq::kernels {

const AttentionKernel attention_u8_avx2 = {
    "attention_u8_avx2", kIsaAvx2, attention_scratch_bytes<Avx2Lanes>, run_attention<Avx2Lanes>};

}  // namespace mpq::kernels
