#include "kernels/attention/attention.h"

#include "kernels/attention/rows.h"
#include "kernels/isa_config.h"
#include "kernels/select.h"

namespace mpq::kernels {

std::span<const AttentionKernel> attention_kernels() {
  static const AttentionKernel kRows[] = {
#if MPQ_HAVE_AMX
    attention_u8_amx,
#endif
#if MPQ_HAVE_AVX512VNNI
    attention_u8_avx512vnni,
#endif
#if MPQ_HAVE_AVX2
    attention_u8_avx2,
#endif
    attention_u8_ref,
  };
  return kRows;
}

const AttentionKernel& select_attention(IsaMask isa) {
  return first_runnable(attention_kernels(), isa);
}

}  // namespace mpq::kernels
