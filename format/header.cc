#include "format/header.h"

#include <bit>
#include <cstring>

namespace mpq::format {

static_assert(std::endian::native == std::endian::little, "the reader maps little-endian data");

Header read_header(std::span<const std::byte> file) {
  Header header;
  std::memcpy(&header, file.data(), sizeof header);
  return header;
}

Digest metadata_digest(std::span<const std::byte> metadata) {
  constexpr Digest kZeros{};
  Sha256 hash;
  hash.update(metadata.first(kDigestOffset));
  hash.update(kZeros);
  hash.update(metadata.subspan(kDigestOffset + kZeros.size()));
  return hash.finish();
}

}  // namespace mpq::format
