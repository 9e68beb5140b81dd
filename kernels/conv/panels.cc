#include "kernels/conv/panels.h"

#include <cstring>

namespace mpq::kernels {

bool panels_fit(const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && cb % 4 == 0 && cb <= 64;
}

size_t panels_bytes(const ConvShape& s, uint32_t cb, uint32_t bits) {
  return panel_count(s) * panel_groups(s, cb) * (256 / 8 * bits);
}

void pack_panels(const ConvShape& s, uint32_t cb, uint32_t bits, const int8_t* canonical,
                 void* packed) {
  std::memset(packed, 0, panels_bytes(s, cb, bits));
  const uint32_t fields = 8 / bits, group_bytes = 256 / fields;
  const size_t groups = panel_groups(s, cb);
  const uint8_t mask = static_cast<uint8_t>((1U << bits) - 1);
  for (uint32_t o = 0; o < s.o; ++o)
    for (uint32_t c = 0; c < s.c; ++c)
      for (uint32_t r = 0; r < s.r; ++r)
        for (uint32_t q = 0; q < s.s; ++q) {
          const size_t k = ((size_t{c / cb} * s.r + r) * s.s + q) * cb + c % cb;
          const uint32_t vector = o % 64 / 16;
          uint8_t* group = static_cast<uint8_t*>(packed) + (o / 64 * groups + k / 4) * group_bytes;
          uint8_t* line = group + vector / fields * 64;
          const auto code = static_cast<uint8_t>(*canonical++);
          line[o % 16 * 4 + k % 4] |=
              static_cast<uint8_t>((code & mask) << (vector % fields * bits));
        }
}

}  // namespace mpq::kernels
