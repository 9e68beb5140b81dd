// Arrays on the emulated GPU, and codes in its layout.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/cuda/params.h"
#include "tests/cuda/emulator/machine.h"

namespace mpq::test {

// Every array ends where its bytes end: the machine knows no others.
class Device {
 public:
  // Aligned to 256 bytes, as a GPU's allocations are. Filled with 0xEE.
  uint8_t* allocate(size_t bytes) {
    const size_t rounded = (bytes + 255) / 256 * 256;
    arrays_.emplace_back(static_cast<uint8_t*>(std::aligned_alloc(256, rounded)));
    uint8_t* p = arrays_.back().get();
    std::memset(p, 0xEE, rounded);
    memory.add(p, bytes);
    return p;
  }
  template <typename T>
  T* upload(const std::vector<T>& values) {
    if (values.empty()) return nullptr;
    uint8_t* p = allocate(values.size() * sizeof(T));
    std::memcpy(p, values.data(), values.size() * sizeof(T));
    return reinterpret_cast<T*>(p);
  }
  GlobalMemory memory;

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::vector<std::unique_ptr<uint8_t, Free>> arrays_;
};

inline uint32_t code_pitch(uint32_t channels, uint32_t bits) {
  return (channels * bits + 127) / 128 * 16;
}

// [pixel][channel], a code a byte, as packed pixels. The padding of a pixel becomes `padding` bits:
// ones in inputs, since weights have to ignore it.
inline std::vector<uint8_t> pack_pixels(const std::vector<uint8_t>& codes, uint32_t channels,
                                        uint32_t bits, bool padding = true) {
  const size_t pixels = codes.size() / channels, pitch = code_pitch(channels, bits);
  std::vector<uint8_t> packed(pixels * pitch, 0);
  const uint32_t ones = (1U << bits) - 1;
  for (size_t p = 0; p < pixels; ++p)
    for (size_t c = 0; c < pitch * 8 / bits; ++c) {
      const uint32_t code = c < channels ? codes[p * channels + c] : padding ? ones : 0;
      packed[p * pitch + c * bits / 8] |= static_cast<uint8_t>(code << (c * bits % 8));
    }
  return packed;
}

}  // namespace mpq::test
