// From a float network to codes: what the front doors of the convert verb share.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "converter/cli/convert.h"
#include "converter/passes/quantize.h"
#include "converter/precision/search.h"

namespace mpq::convert::cli {

// By --map, described in the summary; the frontier is written where --pareto asks for it.
Result<precision::SearchResult> choose_map(const ConvertRequest& request, const Graph& graph,
                                           Converted* converted);

// Quantises by the map, with progress on stderr; layer by layer in report["quantisation"].
Result<PtqReport> quantise(const ConvertRequest& request, const precision::SearchResult& search,
                           const CalibrationData& calibration, Graph* graph,
                           nlohmann::ordered_json* report);

}  // namespace mpq::convert::cli
