// The kernels as nvcc and ptxas leave them: a fatbin a source file (fatbin.S).
#pragma once

extern "C" {
extern const unsigned char mpq_fatbin_attention[], mpq_fatbin_conv[], mpq_fatbin_elementwise[],
    mpq_fatbin_layer_norm[], mpq_fatbin_sequences[];
}

namespace mpq::cuda {

inline const void* const kFatbins[] = {mpq_fatbin_attention, mpq_fatbin_conv,
                                       mpq_fatbin_elementwise, mpq_fatbin_layer_norm,
                                       mpq_fatbin_sequences};

}  // namespace mpq::cuda
