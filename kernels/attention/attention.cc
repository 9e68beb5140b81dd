#include "kernels/attention/attention.h"

#include "kernels/attention/rows.h"
#include "kernels/isa_config.h"

namespace mpq::kernels {

std::span<const AttentionKernel> attention_kernels() {
  static const AttentionKernel kRows[] = {
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
  const std::span<const AttentionKernel> rows = attention_kernels();
  for (const AttentionKernel& row : rows)
    if ((row.isa & ~isa) == 0) return row;
  return rows.back();  // not reached: the reference asks for nothing
}

}  // namespace mpq::kernels
