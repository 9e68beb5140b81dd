// Packed weights of the AVX rows: panels of 64 output channels, k in the order in which the kernels
// walk the activations. Layouts "panel64_s8_v1", "panel64_s4_v1", "panel64_s2_v1".
//
//   k order: input channel block, kernel row, kernel column, channel inside the block; channels
//   that do not exist have weight 0, so whatever the padding channels of the activations hold is
//   harmless.
//
//   A k-group is 4 consecutive k of 64 channels: [vector v 0..3][channel 0..15][k 0..3]
//     s8: 256 bytes as they are
//     s4: 128 bytes: line j has vector 2j in its low and vector 2j + 1 in its high nibbles
//     s2:  64 bytes: vector v in bits 2v, 2v + 1 of every byte
//   so that a shift and a sign extension of a whole 64-byte line give whole vectors in order.
#pragma once

#include "kernels/conv/conv.h"

namespace mpq::kernels {

constexpr uint32_t kPanelChannels = 64;  // four vectors of int32
[[maybe_unused]] static constexpr uint32_t panel_count(const ConvShape& s) {
  return (s.o + 63) / kPanelChannels;
}
[[maybe_unused]] static constexpr size_t panel_groups(const ConvShape& s, uint32_t cb) {
  return size_t{(s.c + cb - 1) / cb} * s.r * s.s * (cb / 4);
}

// Bound on the magnitude of a sum of products with codes up to 255.
[[maybe_unused]] static constexpr int64_t panel_max_sum(size_t groups, uint32_t bits) {
  return static_cast<int64_t>(groups) * 4 * 255 * (1 << (bits - 1));
}

// Where the k-group of 4 input channels (a quad) and a kernel tap lies: quads of a block together,
// then taps, then blocks.
struct PanelOrder {
  uint32_t taps, block;  // block: quads of a channel block
  size_t group(uint32_t quad, uint32_t tap) const {
    return (size_t{quad / block} * taps + tap) * block + quad % block;
  }
  // Its inverse.
  uint32_t quad_of(size_t group) const {
    return static_cast<uint32_t>(group / block / taps * block + group % block);
  }
  uint32_t tap_of(size_t group) const { return static_cast<uint32_t>(group / block % taps); }
};
// All k-groups of real channels, 256 / 8 * bits bytes each; panels panel_stride bytes apart.
void pack_groups(const ConvShape&, const PanelOrder&, uint32_t bits, const int8_t* canonical,
                 void* packed, size_t panel_stride);

bool panels_fit(const ConvShape&, uint32_t cb);
size_t panels_bytes(const ConvShape&, uint32_t cb, uint32_t bits);
void pack_panels(const ConvShape&, uint32_t cb, uint32_t bits, const int8_t* canonical,
                 void* packed);
// The same as rows have them.
template <uint32_t kBits>
[[maybe_unused]] static size_t panels_bytes_of(const ConvShape& s, uint32_t cb) {
  return panels_bytes(s, cb, kBits);
}
template <uint32_t kBits>
[[maybe_unused]] static void pack_panels_of(const ConvShape& s, uint32_t cb,
                                            const int8_t* canonical, void* packed) {
  pack_panels(s, cb, kBits, canonical, packed);
}

}  // namespace mpq::kernels
