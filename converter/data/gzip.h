// gzip files, unpacked in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/status.h"

namespace mpq::data {

bool is_gzip(std::span<const std::byte> bytes);

// All members of the file one after the other, with their checksums verified. `name` is for errors.
Result<std::vector<std::byte>> gunzip(const std::string& name, std::span<const std::byte> bytes,
                                      uint64_t max_bytes);

}  // namespace mpq::data
