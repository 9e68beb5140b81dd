// Model -> bytes: tables, then aligned segments with checksums. Same model, same bytes.
#pragma once

#include <cstddef>
#include <vector>

#include "format/model.h"
#include "format/status.h"

namespace mpq::format {

// Validates the model first, so that nothing is written which the reader would refuse.
Result<std::vector<std::byte>> write(const Model& model);

}  // namespace mpq::format
