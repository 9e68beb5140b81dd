// Bytes -> Model: header, sizes, identifier, digests, FlatBuffers verifier, then validate().
// The whole loader checklist runs in order; the first failure is returned and nothing is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "format/model.h"
#include "format/status.h"

namespace mpq::format {

struct ReadOptions {
  bool verify_segments =
      true;  // SHA-256 of every segment (header and metadata are always verified)
  uint64_t max_file_bytes = uint64_t{4} << 30;
};

// The returned model borrows its bulk data from `file`, which must be 64-byte aligned and outlive
// it. Thread-safe.
Result<Model> read(std::span<const std::byte> file, const ReadOptions& options = {});

// True when the bytes start like a model file (magic only).
bool looks_like_model(std::span<const std::byte> file);

}  // namespace mpq::format
