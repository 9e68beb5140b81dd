// What kernels see of tensors: element types and activation planes. Pointers, sizes, PODs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mpq::kernels {

enum class Elem : uint8_t { f32, s32, u8, s8, u4, s4, u2, s2 };

// Activations of a layer input or output: one unsigned code a byte, whatever its width.
//
//   [image][ceil(C / cb)][H + halo][W + halo][cb]      cb = channels of a block: 4, 16, 32 or 64
//
// `data` is channel 0 of pixel (0, 0) of image 0; halo pixels lie around it, at negative rows and
// columns too, and hold the code of real 0 (the zero point). A pixel is cb contiguous bytes and the
// pixels of a row are contiguous, so any pixel shift is a constant offset and every tap of a kernel
// row (S taps x cb bytes) is one contiguous run. `data` and the strides are multiples of cb.
// Channels C and above of the last block hold unspecified codes: packed weights are 0 there.
struct Planes {
  uint8_t* data = nullptr;
  ptrdiff_t image = 0;  // bytes from an image to the next
  ptrdiff_t plane = 0;  // bytes from a channel block to the next
  ptrdiff_t row = 0;    // bytes from a pixel row to the next
  uint32_t cb = 64;
};

// The channel block of a tensor of C channels: small enough not to waste, 64 otherwise.
constexpr uint32_t channel_block(uint32_t channels) {
  return channels <= 4 ? 4 : channels <= 16 ? 16 : channels <= 32 ? 32 : 64;
}

// A share of a step's work: units [begin, end) of the count its family states. Any partition gives
// the same bytes.
struct WorkRange {
  uint32_t begin = 0, end = 0;
};

// What a kernel may use besides its arguments.
struct KernelContext {
  void* scratch = nullptr;  // 64-byte aligned, private to the thread, of the size the row asked for
  size_t scratch_bytes = 0;
};

}  // namespace mpq::kernels
