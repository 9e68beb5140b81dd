// The blocks of a network of images on codes: what is trained together, and where it is compared
// with the float network.
#pragma once

#include <vector>

#include "converter/graph.h"

namespace mpq::convert::train {

// Nodes [begin, end) of the quantised graph, which read nothing of before but `input`.
struct Block {
  size_t begin = 0, end = 0, layers = 0;
  ValueId input = kNoValue, output = kNoValue;
};

// A block ends where everything that is read later is one value, and quantisers are all that read
// it.
std::vector<Block> blocks_of(const Graph& graph);

// The value of the float network that a value of the quantised one stands for.
Result<ValueId> real_value(const Graph& real, const Graph& graph, ValueId id);

}  // namespace mpq::convert::train
