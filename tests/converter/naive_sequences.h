// The meaning of operators on rows of tokens, in plain loops and doubles, for one sequence that is
// alone: what eval_sequences is compared with.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "converter/graph.h"

namespace mpq::convert {

// All values of the sequence, a row a token, or one row behind a pooling. types may be empty.
std::map<ValueId, std::vector<double>> naive_sequence(const Graph& graph,
                                                      std::span<const int32_t> ids,
                                                      std::span<const int32_t> types);

}  // namespace mpq::convert
