// Weights in the layouts of the runtime's kernels, added to a model file.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "format/status.h"

namespace mpq::convert::cli {

// Empty when the word is an instruction set, else what is wrong with it.
std::string check_isa(const std::string& word);

// The file with weights packed for `isa`; what it already has for others stays.
Result<std::vector<std::byte>> prepack(std::span<const std::byte> file, const std::string& isa);

}  // namespace mpq::convert::cli
