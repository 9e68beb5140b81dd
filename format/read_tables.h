// FlatBuffer tables -> Model: ranges, enums, and where data lies. Not the meaning: validate.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/model.h"
#include "format/status.h"

namespace mpq::fb {
struct Model;
struct Node;
}  // namespace mpq::fb

namespace mpq::format {

struct SegmentView {
  SegmentKind kind;
  std::span<const std::byte> data;
};

// What an error is about: "tensor 3", or "image".
struct Place {
  static constexpr uint64_t kOnly = ~uint64_t{0};
  const char* what;
  uint64_t index = kOnly;
};
void append(std::string& to, const Place& place);

// The operator of a node and its attributes.
Checked read_attributes(const fb::Node& node, Place who, Attrs* attributes);

// Segments are checked, `metadata` has passed the FlatBuffers verifier.
Result<Model> read_tables(const fb::Model& metadata, uint64_t metadata_size,
                          const std::vector<SegmentView>& segments);

// The writer of the format's versions to come may set what this reader does not know.
Checked check_version(const fb::Model& metadata);

bool all_zero(std::span<const std::byte> bytes);

}  // namespace mpq::format
