// Packed weights that come from elsewhere, such as a model file. In most layouts any bytes are some
// weights; in a few some bytes steer the kernel.
#pragma once

#include "kernels/conv/panels.h"

namespace mpq::kernels {

// Whether a kernel stays within its buffers on these bytes, which are as many as its layout takes.
// Bytes that pass may still be other weights than the layer's.
bool packed_is_safe(const char* layout, const ConvShape&, uint32_t cb, const void* packed);

}  // namespace mpq::kernels
