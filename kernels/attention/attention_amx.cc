// Attention on AMX tiles.
#include "kernels/attention/amx_head_avx512.h"

namespace mpq::kernels {

const AttentionKernel attention_u8_amx =
    attention_row<AmxHead<NativeTiles>>("attention_u8_amx", kIsaAmx);

}  // namespace mpq::kernels
