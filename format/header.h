// The byte picture of a file (SPEC.md): constants, the extended header, and its digest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "format/model.h"
#include "format/sha256.h"
#include "format/types.h"

namespace mpq::format {

inline constexpr uint32_t kMinorVersion = 1;         // of the format; the major one is in "MPQ1"
inline constexpr uint64_t kSegmentAlignment = 4096;  // a page
inline constexpr uint64_t kDataAlignment = 64;       // a cache line
inline constexpr uint64_t kMaxMetadata = 16U << 20;
inline constexpr uint64_t kKnownFeatures = 0;  // bits of required_features
inline constexpr size_t kDigestOffset = 48;

// Bytes 0-95 of a file, little-endian.
struct Header {
  uint32_t root;           // FlatBuffers: offset of the root table
  char identifier[4];      // "MPQ1"
  char magic[4];           // "mh01"
  uint32_t header_size;    // 96
  uint64_t metadata_size;  // header and FlatBuffer
  uint64_t segment_base;
  uint64_t file_size;
  uint64_t required_features;
  Digest digest;           // SHA-256 of bytes [0, metadata_size), these 32 taken as 0
  std::byte reserved[16];  // 0
};
static_assert(sizeof(Header) == 96 && offsetof(Header, digest) == kDigestOffset);

constexpr uint64_t round_up(uint64_t n, uint64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// The segment that holds the data of a constant of this type.
constexpr SegmentKind segment_of(DType type) {
  return is_signed_code(type) ? SegmentKind::kWeights : SegmentKind::kConstants;
}

Header read_header(std::span<const std::byte> file);  // of at least 96 bytes
Digest metadata_digest(std::span<const std::byte> metadata);

}  // namespace mpq::format
