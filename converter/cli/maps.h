// Precision maps for the verbs: from a word or a file, with measured costs; what a search found as
// JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "converter/graph.h"
#include "converter/passes/quantize.h"
#include "converter/precision/search.h"

namespace mpq::convert::cli {

// `words`: as precision/spec.h, or the path of a map. `cost_table`: path, or empty. images: for
// selectors that look at them; null: there are none.
Result<precision::SearchResult> resolve_map(const Graph& graph, const std::string& words,
                                            const std::string& cost_table,
                                            const train::ImageSet* images = nullptr);
Result<format::PrecisionMap> read_map(const std::string& path);
BitsMap bits_of_map(const format::PrecisionMap& map);
Result<precision::CostTable> read_costs(const std::string& path);

// {"schema_version": 1, "cost_model": ..., "points": [{"budget": 0.5, "cost": ..., "gain": ...,
// "bound": ...,
//  "bits": [8, 4, ...]}, ...]}; bits per group.
nlohmann::ordered_json frontier_json(const precision::SearchResult& result);

// "eagl: 0.750 of ... bmac, 12 of 48 groups at 2 bit, gain 150.2 (at most 150.9)"
std::string describe(const precision::SearchResult& result);

}  // namespace mpq::convert::cli
