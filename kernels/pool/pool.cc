#include "kernels/pool/pool.h"

#include "kernels/isa_config.h"
#include "kernels/pool/rows.h"

namespace mpq::kernels {

std::span<const PoolKernel> pool_kernels() {
  static const PoolKernel kRows[] = {
#if MPQ_HAVE_AVX512VNNI
    max_pool_u8_avx512vnni,
    avg_pool_u8_avx512vnni,
#endif
#if MPQ_HAVE_AVX2
    max_pool_u8_avx2,
    avg_pool_u8_avx2,
#endif
    max_pool_u8_ref,
    avg_pool_u8_ref,
  };
  return kRows;
}

const PoolKernel& select_pool(PoolKind kind, const PoolShape& shape, uint32_t cb, IsaMask isa) {
  const std::span<const PoolKernel> rows = pool_kernels();
  for (const PoolKernel& row : rows)
    if (row.kind == kind && (row.isa & ~isa) == 0 && row.fits(shape, cb)) return row;
  return rows.back();  // not reached: the references fit everything
}

}  // namespace mpq::kernels
