// 16 bytes from global to shared memory on every architecture, where nothing is to be done
// meanwhile.
#pragma once

#include "kernels/cuda/primitives.h"

namespace mpq::cuda {
namespace {

// As cp_async16; before sm_80 at once.
MPQ_DEVICE void copy16(uint32_t address, const void* from, uint32_t bytes) {
#if MPQ_CUDA_ARCH >= 80
  cp_async16(address, from, bytes);
#else
  shared_store4(address, bytes != 0 ? load_const(static_cast<const Words4*>(from)) : Words4{});
#endif
}

// Waits for all copies of this thread.
MPQ_DEVICE void copies_done() {
#if MPQ_CUDA_ARCH >= 80
  cp_commit();
  cp_wait<0>();
#endif
}

}  // namespace
}  // namespace mpq::cuda
