// A format::Model in plain loops: the statements of model.h, written again and nothing else. What
// lower() emits is compared with the float meaning of the graph through it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "format/model.h"

namespace mpq::convert {

// Codes and accumulators as numbers, float outputs as they are, by tensor name. One image.
std::map<std::string, std::vector<double>> run_model(const format::Model& model,
                                                     const std::vector<double>& input);

}  // namespace mpq::convert
