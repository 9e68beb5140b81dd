// The precisions that a quantised network brings along.
#pragma once

#include "converter/graph.h"
#include "format/model.h"

namespace mpq::convert::precision {

// The FakeQuant in front of a node, behind what keeps its codes: an index into the nodes, or -1.
int input_quantiser(const Graph& graph, const Node& node);

// By the codes of weights and the quantisers in front of layers; inputs without one have 8 bits.
// The error names a layer whose weights have no codes. Groups are fixed: nothing was chosen.
Result<format::PrecisionMap> imported_map(const Graph& graph);

}  // namespace mpq::convert::precision
