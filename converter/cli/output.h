// Files in, files out.
#pragma once

#include <string>
#include <string_view>

#include "format/status.h"

namespace mpq::convert::cli {

// Whole, or not at all (data/write_file.h).
Checked write_text(const std::string& path, std::string_view text);  // "-": stdout

Result<std::string> read_text(const std::string& path);

}  // namespace mpq::convert::cli
