// FlatBuffer tables -> Model: ranges, enums, and where data lies. Not the meaning: validate.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "format/model.h"
#include "format/status.h"

namespace mpq::fb {
struct Model;
}

namespace mpq::format {

struct SegmentView {
  SegmentKind kind;
  std::span<const std::byte> data;
};

// Segments are checked, `metadata` has passed the FlatBuffers verifier.
Result<Model> read_tables(const fb::Model& metadata, uint64_t metadata_size,
                          const std::vector<SegmentView>& segments);

// The writer of the format's versions to come may set what this reader does not know.
Checked check_version(const fb::Model& metadata);

bool all_zero(std::span<const std::byte> bytes);

}  // namespace mpq::format
