#include "kernels/conv/crt.h"

namespace mpq::kernels {

// Whole blocks: bytes that are no codes would not be packed as they should.
bool crt_fits(const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && cb == kCrtBlock && s.c > 0 && s.c % cb == 0;
}

}  // namespace mpq::kernels
