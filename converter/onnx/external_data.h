// Weights in files beside the model. The path comes from an untrusted file: it must stay inside the
// model's folder, and no component may be a link.
#pragma once

#include <string>

#include "format/status.h"

namespace mpq::convert {

// `bytes` bytes at `offset` of folder/location. Refuses absolute paths, "..", empty components,
// NUL, backslashes, control characters, malformed UTF-8, symbolic links anywhere below the folder,
// hard links, and everything that is not a regular file.
Result<std::string> read_external(const std::string& folder, const std::string& location,
                                  uint64_t offset, uint64_t bytes);

Checked check_location(const std::string& location);  // the path alone

}  // namespace mpq::convert
