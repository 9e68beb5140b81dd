// Precision maps as one HTML page: figures are SVG inside it, nothing is fetched, no script runs.
#pragma once

#include <string>
#include <vector>

#include "converter/graph.h"
#include "converter/precision/search.h"

namespace mpq::convert::cli {

struct PageMap {
  std::string words;  // what was asked for
  precision::SearchResult found;
};

// maps: at least one, of the same graph; the first is shown layer by layer, all side by side.
std::string print_page(const std::string& network, const Graph& graph,
                       const std::vector<PageMap>& maps);

}  // namespace mpq::convert::cli
