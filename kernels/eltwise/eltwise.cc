#include "kernels/eltwise/eltwise.h"

#include "kernels/eltwise/rows.h"
#include "kernels/isa_config.h"
#include "kernels/select.h"

namespace mpq::kernels {

std::span<const AddKernel> add_kernels() {
  static const AddKernel kRows[] = {
#if MPQ_HAVE_AVX512VNNI
    add_u8_avx512vnni,
#endif
#if MPQ_HAVE_AVX2
    add_u8_avx2,
#endif
    add_u8_ref,
  };
  return kRows;
}

const AddKernel& select_add(IsaMask isa) { return first_runnable(add_kernels(), isa); }

}  // namespace mpq::kernels
