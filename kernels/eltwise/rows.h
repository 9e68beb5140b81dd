// The rows of the family, defined one ISA a file and joined in eltwise.cc, and the geometry they
// share.
#pragma once

#include "kernels/eltwise/eltwise.h"

namespace mpq::kernels {

extern const AddKernel add_u8_ref, add_u8_avx2, add_u8_avx512vnni;

// The row of a unit: w * cb contiguous bytes. Static, so that the copy compiled for an instruction
// set stays in its file.
static inline uint8_t* add_row(const AddShape& s, const Planes& p, uint32_t unit) {
  const uint32_t blocks = (s.c + p.cb - 1) / p.cb;
  return p.data + static_cast<ptrdiff_t>(unit / s.h / blocks) * p.image +
         static_cast<ptrdiff_t>(unit / s.h % blocks) * p.plane +
         static_cast<ptrdiff_t>(unit % s.h) * p.row;
}

}  // namespace mpq::kernels
