// The header of a safetensors file: JSON that gives each tensor's type, shape and extent.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "format/status.h"
#include "format/types.h"

namespace mpq::convert {

struct SafetensorsEntry {
  std::string type;  // as written: "F32", "BF16"
  Shape shape;
  uint64_t begin = 0, end = 0;  // in the bytes after the header
};
using SafetensorsHeader = std::map<std::string, SafetensorsEntry>;

// Holds the file to what the format promises: no name or key twice, sizes that fit type and shape,
// and each of the `data_bytes` after the header in exactly one tensor.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, uint64_t data_bytes);

// A tensor's name for messages: short and printable.
std::string quoted_tensor(const std::string& name);

}  // namespace mpq::convert
