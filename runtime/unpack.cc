#include "runtime/unpack.h"

#include <cstring>

#include "format/bits.h"

namespace mpq::runtime {
namespace {

// Whole bytes by fields of constant width, which compilers turn into vectors; the tail by
// definition.
template <int kBits>
void unpack(std::span<const std::byte> packed, size_t count, int8_t* codes) {
  constexpr size_t kFields = 8 / kBits;
  constexpr int kSign = 1 << (kBits - 1), kMask = (1 << kBits) - 1;
  const size_t whole = count / kFields;
  const auto* bytes = reinterpret_cast<const uint8_t*>(packed.data());
  for (size_t i = 0; i < whole; ++i)
    for (size_t f = 0; f < kFields; ++f) {
      const int field = (bytes[i] >> (f * kBits)) & kMask;
      codes[i * kFields + f] = static_cast<int8_t>((field ^ kSign) - kSign);
    }
  for (size_t i = whole * kFields; i < count; ++i)
    codes[i] = static_cast<int8_t>(format::get_code(packed, i, kBits, true));
}

}  // namespace

void unpack_codes(std::span<const std::byte> packed, DType type, size_t count, int8_t* codes) {
  switch (bits_of(type)) {
    case 2:
      return unpack<2>(packed, count, codes);
    case 4:
      return unpack<4>(packed, count, codes);
    default:
      std::memcpy(codes, packed.data(), count);
  }
}

}  // namespace mpq::runtime
