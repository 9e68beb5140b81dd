// Field-by-field comparison of models: the first difference as text, empty when there is none.
#pragma once

#include <string>

#include "format/model.h"

namespace mpq::test {

std::string difference(const format::Model& a, const format::Model& b);

}  // namespace mpq::test
