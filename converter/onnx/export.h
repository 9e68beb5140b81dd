// Graph -> ONNX: what other tools read, and import_onnx reads again to the same network. Networks
// of images only.
#pragma once

#include <cstddef>
#include <vector>

#include "converter/graph.h"

namespace mpq::convert {

// Quantisers become QuantizeLinear and DequantizeLinear, weights with codes an integer tensor
// behind a DequantizeLinear; 4-bit codes need opset 21, 2-bit ones opset 25. The error names a node
// that has no such form.
Result<std::vector<std::byte>> export_onnx(const Graph& graph);

}  // namespace mpq::convert
