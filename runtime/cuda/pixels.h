// Tensors between the order of the API and the one that the CUDA kernels want.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "format/types.h"
#include "runtime/cuda/plan.h"

namespace mpq::runtime {

// Bytes of a pixel of packed codes: whole 16-byte words.
constexpr uint32_t pixel_pitch(uint32_t channels, uint32_t bits) {
  return (channels * bits + 127) / 128 * 16;
}

// Bytes of a tensor as it lies on the GPU; `dims` may have fewer rows than it was planned for.
size_t device_bytes(const CudaTensor& tensor, const Dims& dims, DType type);

// Row-major in the order of the shape, codes one a byte, to and from the GPU's form. Codes above
// the type's range count as its highest; nothing is folded on the way in. device has
// device_bytes(...) bytes.
void to_device(const CudaTensor& tensor, const Dims& dims, DType type,
               std::span<const std::byte> canonical, std::span<std::byte> device);
void from_device(const CudaTensor& tensor, const Dims& dims, DType type,
                 std::span<const std::byte> device, std::span<std::byte> canonical);
// Both are the same bytes.
bool same_on_device(const CudaTensor& tensor, const Dims& dims, DType type);

}  // namespace mpq::runtime
