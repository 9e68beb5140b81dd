// Files in, files out.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/status.h"

namespace mpq::convert::cli {

// Temporary file in the same folder, fsync, rename: a reader sees the old file or the whole new
// one.
Checked write_file(const std::string& path, std::span<const std::byte> bytes);
Checked write_text(const std::string& path, std::string_view text);  // "-": stdout

Result<std::string> read_text(const std::string& path);

}  // namespace mpq::convert::cli
