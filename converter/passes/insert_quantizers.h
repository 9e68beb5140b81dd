// FakeQuant nodes on chosen edges of a graph.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "converter/graph.h"

namespace mpq::convert {

using GridKey = std::pair<ValueId, int>;  // value, bits: one grid for all its readers

// An input of a node that reads the codes of a grid.
struct CodeReader {
  size_t node = 0, input = 0;
  GridKey key;
};

// One FakeQuant for each grid, behind the value's producer; its readers read that. Nodes and values
// get names that are not in use.
void insert_quantizers(Graph* graph, const std::map<GridKey, QuantSpec>& grids,
                       const std::vector<CodeReader>& readers);

}  // namespace mpq::convert
