// A file taken apart into mutable pieces and put together again, for crafting bad ones.
#pragma once

#include <cstring>
#include <vector>

#include "format/aligned.h"
#include "format/header.h"
#include "format/serialize.h"
#include "mpq_generated.h"

namespace mpq::test {

// Metadata as FlatBuffers' object tree, and the bytes of the segments in order.
struct Parts {
  fb::ModelT metadata;
  std::vector<std::vector<std::byte>> segments;

  explicit Parts(const std::vector<std::byte>& file) {
    const fb::Model* model = fb::GetModel(file.data());
    model->UnPackTo(&metadata);
    const format::Header header = format::read_header(file);
    for (const auto& s : metadata.segments) {
      const auto begin = file.begin() + static_cast<ptrdiff_t>(header.segment_base + s->offset);
      segments.emplace_back(begin, begin + static_cast<ptrdiff_t>(s->size));
    }
  }

  // Size and digest of segments as their bytes are now.
  void refresh() {
    metadata.segment_digests.clear();
    uint64_t end = 0;
    for (size_t i = 0; i < segments.size(); ++i) {
      metadata.segments[i]->offset = format::round_up(end, format::kSegmentAlignment);
      metadata.segments[i]->size = segments[i].size();
      end = metadata.segments[i]->offset + segments[i].size();
      for (const std::byte b : format::sha256(segments[i]))
        metadata.segment_digests.push_back(std::to_integer<uint8_t>(b));
    }
  }

  std::vector<std::byte> join() const {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(fb::Model::Pack(builder, &metadata), fb::ModelIdentifier());
    return format::assemble({builder.GetBufferPointer(), builder.GetSize()}, segments);
  }
};

// Stores a value in bytes.
template <typename T>
void poke(std::span<std::byte> bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

}  // namespace mpq::test
