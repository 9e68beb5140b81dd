// A model as text, every field of it, constants by their SHA-256: what golden files are compared
// by.
#pragma once

#include <string>

#include "format/model.h"

namespace mpq::test {

std::string describe(const format::Model& model);

}  // namespace mpq::test
