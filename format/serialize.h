// Steps of writing, without any check: for the writer and for tests that need bad files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "format/model.h"

namespace mpq::format {

// Model -> bytes, whatever the model says.
std::vector<std::byte> serialize(const Model& model);

// A finished FlatBuffer and the segments in order of kind -> file, with header and metadata digest.
std::vector<std::byte> assemble(std::span<const uint8_t> flatbuffer,
                                std::span<const std::vector<std::byte>> segments);

// Stores the digest of header and metadata again, after a change to them. metadata_size is in
// bounds.
void seal(std::span<std::byte> file);

}  // namespace mpq::format
