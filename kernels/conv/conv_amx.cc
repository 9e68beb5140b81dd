// Direct convolution with tdpbusd: any stride, any dilation, weights of 8, 4 or 2 bits.

#include "kernels/conv/amx_crt_avx512.h"
#include "kernels/conv/amx_walk_avx512.h"
#include "kernels/conv/rows.h"

namespace mpq::kernels {

const ConvKernel conv_u8s8_32x64_amx =
    amx_row<NativeTiles, 8>("conv_u8s8_32x64_amx", kIsaAmx, Elem::s8, "panel64_s8_v1");
const ConvKernel conv_u8s4_32x64_amx =
    amx_row<NativeTiles, 4>("conv_u8s4_32x64_amx", kIsaAmx, Elem::s4, "panel64_s4_v1");
const ConvKernel conv_u8s2_32x64_amx =
    amx_row<NativeTiles, 2>("conv_u8s2_32x64_amx", kIsaAmx, Elem::s2, "panel64_s2_v1");
const ConvKernel conv_u2s2_crt_amx = amx_crt_row<NativeTiles>("conv_u2s2_crt_amx", kIsaAmx);

}  // namespace mpq::kernels
