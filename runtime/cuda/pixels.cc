#include "runtime/cuda/pixels.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace mpq::runtime {
namespace {

// Calls each(index in canonical order, pixel, channel) for all elements; pixels in order of memory.
template <typename Each>
void for_each_element(const Dims& d, Each each) {
  size_t i = 0;
  for (size_t n = 0; n < d.n; ++n)
    for (uint32_t c = 0; c < d.c; ++c)
      for (uint32_t y = 0; y < d.h; ++y)
        for (uint32_t x = 0; x < d.w; ++x) each(i++, (n * d.h + y) * d.w + x, c, y, x, n);
}

// Where an element's code is: byte and bit.
struct CodePlace {
  size_t byte;
  uint32_t bit;
};

CodePlace place_of(const CudaTensor& t, size_t n, uint32_t c, uint32_t y, uint32_t x,
                   size_t pixel) {
  if (t.form == CudaForm::kFolded) {
    const uint32_t fy = y + t.pad_top, fx = x + t.pad_left;
    pixel = (n * t.folded_h + fy / 2) * t.folded_w + fx / 2;
    c += (fy % 2 * 2 + fx % 2) * 4;
  }
  const uint32_t bit = c * t.codes.bits;
  return {pixel * t.codes.pitch + bit / 8, bit % 8};
}

}  // namespace

size_t device_bytes(const CudaTensor& t, const Dims& d, DType type) {
  if (t.form == CudaForm::kFolded) return size_t{d.n} * t.folded_h * t.folded_w * t.codes.pitch;
  if (t.form == CudaForm::kPixels && is_code(type)) return size_t{d.n} * d.h * d.w * t.codes.pitch;
  return d.elements() * (is_code(type) ? 1 : 4);
}

bool same_on_device(const CudaTensor& t, const Dims& d, DType type) {
  return t.form == CudaForm::kRaw || (!is_code(type) && d.h * d.w == 1);
}

void to_device(const CudaTensor& t, const Dims& d, DType type, std::span<const std::byte> canonical,
               std::span<std::byte> device) {
  assert(is_code(type) && t.form == CudaForm::kPixels);
  std::memset(device.data(), 0, device.size());
  const auto highest = static_cast<uint32_t>(max_code(type));
  for_each_element(d, [&](size_t i, size_t pixel, uint32_t c, uint32_t y, uint32_t x, size_t n) {
    const CodePlace at = place_of(t, n, c, y, x, pixel);
    const uint32_t code = std::min(static_cast<uint32_t>(canonical[i]), highest);
    device[at.byte] |= static_cast<std::byte>(code << at.bit);
  });
}

void from_device(const CudaTensor& t, const Dims& d, DType type, std::span<const std::byte> device,
                 std::span<std::byte> canonical) {
  if (same_on_device(t, d, type)) {
    std::memcpy(canonical.data(), device.data(), canonical.size());
  } else if (is_code(type)) {
    const auto mask = static_cast<std::byte>(max_code(type));
    for_each_element(d, [&](size_t i, size_t pixel, uint32_t c, uint32_t y, uint32_t x, size_t n) {
      const CodePlace at = place_of(t, n, c, y, x, pixel);
      canonical[i] = device[at.byte] >> at.bit & mask;
    });
  } else {
    for_each_element(d, [&](size_t i, size_t pixel, uint32_t c, uint32_t, uint32_t, size_t) {
      std::memcpy(&canonical[i * 4], &device[(pixel * d.c + c) * 4], 4);
    });
  }
}

}  // namespace mpq::runtime
