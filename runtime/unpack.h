// Canonical packed codes of the file -> one int8 a code, fast: what kernels' pack functions take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "format/types.h"

namespace mpq::runtime {

// `packed` holds `count` codes of a signed type, low bits first (format/bits.h is the definition).
void unpack_codes(std::span<const std::byte> packed, DType type, size_t count, int8_t* codes);

}  // namespace mpq::runtime
