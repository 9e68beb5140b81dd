// The members of an uncompressed tar archive (ustar, GNU and pax long names), read in place.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "converter/data/read_file.h"

namespace mpq::data {

struct TarMember {
  std::string path;  // without a leading "./"; only ever compared, never used as a file name
  uint64_t offset = 0, size = 0;
};

// Regular members in archive order; links, devices and folders are left out.
Result<std::vector<TarMember>> list_tar(const std::string& path);
// The same of an archive in memory; `name` is for errors.
Result<std::vector<TarMember>> list_tar(const std::string& name, std::span<const std::byte> bytes);

}  // namespace mpq::data
