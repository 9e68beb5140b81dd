// The IR's meaning in plain loops and doubles: what eval is compared with.
#pragma once

#include <map>

#include "converter/graph.h"

namespace mpq::convert {

// All values of one image (batch 1), in NCHW order.
std::map<ValueId, std::vector<double>> naive_eval(const Graph& graph,
                                                  const std::vector<float>& input);

}  // namespace mpq::convert
