// The rows of the family, defined one ISA a file and joined in conv.cc.
#pragma once

#include "kernels/conv/conv.h"

namespace mpq::kernels {

extern const ConvKernel conv_u8s8_ref;
extern const ConvKernel conv_u8s8_4x16_avx2, conv_u8s4_6x16_avx2, conv_u4s8_6x16_avx2,
    conv_u4s4_6x16_avx2, conv_u4s4_winograd2_avx2, conv_u8s8_thin_avx2, conv_u2s2_base64_avx2;
extern const ConvKernel conv_u8s8_thin_avx512vnni, conv_u8s8_14x64_avx512vnni,
    conv_u8s4_14x64_avx512vnni, conv_u8s2_14x64_avx512vnni, conv_u42s4_winograd2_avx512vnni,
    conv_u2s2_winograd3_avx512vnni, conv_u20s4_winograd2_pairs_avx512vnni,
    conv_u240s4_pairs_avx512vnni, conv_u252s2_pairs_avx512vnni, conv_u63s4_strassen_avx512vnni,
    conv_u2s2_lookup_avx512vnni, conv_u2s2_crt_avx512vnni, conv_u4s2_crt_avx512vnni,
    conv_u2s4_crt_avx512vnni;
extern const ConvKernel conv_u8s8_32x64_amx, conv_u8s4_32x64_amx, conv_u8s2_32x64_amx,
    conv_u2s2_crt_amx;

}  // namespace mpq::kernels
