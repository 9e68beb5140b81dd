// Whole files.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "format/status.h"

namespace mpq::data {

// Temporary file in the same folder, fsync, rename: a reader sees the old file or the whole new
// one.
Checked write_file(const std::string& path, std::span<const std::byte> bytes);

}  // namespace mpq::data
