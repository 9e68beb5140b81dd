// Text files as data sets come: plain, gzip, or inside a tar archive.
#pragma once

#include <string>

#include "format/status.h"

namespace mpq::data {

// `place`: FILE, FILE.gz, or ARCHIVE[#MEMBER] with ARCHIVE a tar file, packed by gzip or not.
// MEMBER is the path of a file in it, or as much of its end as tells it from the others; without it
// the only file is meant, or the only one that has "test" in its name.
Result<std::string> read_text_file(const std::string& place);

}  // namespace mpq::data
