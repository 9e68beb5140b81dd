#include "kernels/conv/panels.h"

#include <cstring>

namespace mpq::kernels {
namespace {

constexpr uint32_t kPanel = 64, kWideGroup = 4 * kPanel;  // codes of a k-group before narrowing
constexpr uint32_t kBatch = 16;                           // k-groups gathered at a time

// One k-group [vector][channel][4 k] of int8 to fields of kBits: vector v of a line in field v.
template <uint32_t kBits>
void narrow_group(const uint8_t* wide, uint8_t* packed) {
  constexpr uint32_t kFields = 8 / kBits, kMask = (1U << kBits) - 1;
  for (uint32_t line = 0; line < 4 / kFields; ++line, packed += 64, wide += size_t{64} * kFields)
    for (uint32_t i = 0; i < 64; ++i) {
      uint32_t byte = 0;
      for (uint32_t f = 0; f < kFields; ++f) byte |= (wide[f * 64 + i] & kMask) << (f * kBits);
      packed[i] = static_cast<uint8_t>(byte);
    }
}

// The 4 codes of `count` k-groups for one output channel, from where they lie to `wide`, whose
// groups are kWideGroup apart. Code i of group g is source[g * group_step + i * channel_step].
void gather_codes(const int8_t* source, uint32_t count, size_t group_step, size_t channel_step,
                  uint32_t channels, uint8_t* wide) {
  if (channels == 4 && channel_step == 1) {
    for (uint32_t g = 0; g < count; ++g)
      std::memcpy(wide + g * kWideGroup, source + g * group_step, 4);
    return;
  }
  for (uint32_t g = 0; g < count; ++g)
    for (uint32_t i = 0; i < channels; ++i)
      wide[g * kWideGroup + i] = static_cast<uint8_t>(source[g * group_step + i * channel_step]);
}

uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }

template <uint32_t kBits>
void pack(const ConvShape& s, const PanelOrder& order, const int8_t* canonical, uint8_t* packed,
          size_t panel_stride) {
  constexpr size_t kGroupBytes = kWideGroup / 8 * kBits;
  const uint32_t taps = s.r * s.s, quads = s.c / 4;
  alignas(64) uint8_t wide[kBatch * kWideGroup];
  for (uint32_t o = 0; o < s.o; o += kPanel, packed += panel_stride) {
    const uint32_t rows = min(kPanel, s.o - o);
    const int8_t* panel = canonical + size_t{o} * s.c * taps;
    // Gathers `count` groups, the first from `source`, and stores group g at order.group(...).
    const auto move = [&](const int8_t* source, uint32_t count, size_t group_step,
                          uint32_t channels, uint32_t quad, uint32_t tap, bool along_channels) {
      if (rows < kPanel || channels < 4) std::memset(wide, 0, sizeof wide);
      for (uint32_t row = 0; row < rows; ++row)
        gather_codes(source + size_t{row} * s.c * taps, count, group_step, taps, channels,
                     wide + row * 4);
      for (uint32_t g = 0; g < count; ++g)
        narrow_group<kBits>(
            wide + g * kWideGroup,
            packed + order.group(along_channels ? quad + g : quad, along_channels ? tap : tap + g) *
                         kGroupBytes);
    };
    if (taps == 1)  // neighbours in memory are channels
      for (uint32_t q = 0; q < quads; q += kBatch)
        move(panel + size_t{q} * 4, min(kBatch, quads - q), 4, 4, q, 0, true);
    for (uint32_t q = taps == 1 ? quads : 0; q * 4 < s.c; ++q)  // neighbours are taps
      for (uint32_t t = 0; t < taps; t += kBatch)
        move(panel + size_t{q} * 4 * taps + t, min(kBatch, taps - t), 1, min(4, s.c - q * 4), q, t,
             false);
  }
}

}  // namespace

bool panels_fit(const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && cb > 0 && cb % 4 == 0 && cb <= 64;
}

size_t panels_bytes(const ConvShape& s, uint32_t cb, uint32_t bits) {
  return panel_count(s) * panel_groups(s, cb) * (256 / 8 * bits);
}

void pack_groups(const ConvShape& s, const PanelOrder& order, uint32_t bits,
                 const int8_t* canonical, void* packed, size_t panel_stride) {
  auto* bytes = static_cast<uint8_t*>(packed);
  if (bits == 8)
    pack<8>(s, order, canonical, bytes, panel_stride);
  else if (bits == 4)
    pack<4>(s, order, canonical, bytes, panel_stride);
  else
    pack<2>(s, order, canonical, bytes, panel_stride);
}

void pack_panels(const ConvShape& s, uint32_t cb, uint32_t bits, const int8_t* canonical,
                 void* packed) {
  // Only groups of channels that do not exist stay as they are.
  if (s.c % cb != 0) std::memset(packed, 0, panels_bytes(s, cb, bits));
  pack_groups(s, {.taps = s.r * s.s, .block = cb / 4}, bits, canonical, packed,
              panel_groups(s, cb) * (256 / 8 * bits));
}

}  // namespace mpq::kernels
