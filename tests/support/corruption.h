// Every single-byte change of the head of a model file, with the digest made right again: what a
// hostile writer could send. The format's tests count what still loads; end-to-end tests run it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "format/aligned.h"
#include "format/header.h"
#include "format/reader.h"
#include "format/serialize.h"

namespace mpq::test {

struct CorruptionCounts {
  uint64_t refused = 0, accepted = 0;
};

// Calls `accepted(model, offset, value)` for each changed file that loads: bytes [begin, end) of
// header and metadata, each with `step`-th of its 255 other values. `file` starts at a multiple of
// 64 and is as it was afterwards. The digests of segments are not verified, so that their change is
// harmless.
inline CorruptionCounts for_each_corruption(
    std::span<std::byte> file, size_t begin, size_t end, int step,
    const std::function<void(const format::Model&, size_t offset, int value)>& accepted) {
  CorruptionCounts counts;
  const format::Header header = format::read_header(file);
  const auto seal = [&] {  // the metadata's size may be what was changed
    const uint64_t size = format::read_header(file).metadata_size;
    if (size > sizeof(format::Header) && size <= file.size()) format::seal(file);
  };
  for (size_t offset = begin; offset < end; ++offset) {
    if (offset >= format::kDigestOffset && offset < format::kDigestOffset + header.digest.size())
      continue;
    const std::byte original = file[offset];
    for (int delta = 1; delta < 256; delta += step) {
      file[offset] = static_cast<std::byte>(std::to_integer<int>(original) + delta);
      seal();
      const auto model = format::read(file, {.verify_segments = false});
      ++(model.ok() ? counts.accepted : counts.refused);
      if (model.ok()) accepted(*model, offset, std::to_integer<int>(file[offset]));
    }
    file[offset] = original;
  }
  seal();
  return counts;
}

}  // namespace mpq::test
