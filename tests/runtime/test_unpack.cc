#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "format/bits.h"
#include "runtime/unpack.h"

namespace mpq::runtime {

TEST_CASE("unpack: codes of every width and count are the format's") {
  std::mt19937 random(3);
  for (const DType type : {DType::kS8, DType::kS4, DType::kS2})
    for (size_t count = 1; count < 200; ++count) {
      std::vector<std::byte> packed(format::packed_bytes(count, bits_of(type)));
      for (std::byte& b : packed) b = static_cast<std::byte>(random());
      std::vector<int8_t> codes(count + 1, 99);
      unpack_codes(packed, type, count, codes.data());
      for (size_t i = 0; i < count; ++i)
        REQUIRE(codes[i] == format::get_code(packed, i, bits_of(type), true));
      CHECK(codes[count] == 99);
    }
}

}  // namespace mpq::runtime
