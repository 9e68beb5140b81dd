// The two halves of bad_files().
#pragma once

#include <vector>

#include "tests/format/bad_files.h"

namespace mpq::test {

void add_bad_structure(std::vector<BadFile>* list);
void add_bad_meaning(std::vector<BadFile>* list);

}  // namespace mpq::test
