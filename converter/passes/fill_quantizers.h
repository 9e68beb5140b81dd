// A network that came quantised may leave some of its tensors in float: its residual stream, the
// input of its pooling, the image, the weights of its first or last layer. Integer arithmetic needs
// codes there too. This pass adds 8-bit quantisers on exactly those edges, with ranges calibrated
// on what the network computes; the quantisers and codes that it brought along stay as they are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "converter/graph.h"
#include "converter/passes/quantize.h"

namespace mpq::convert {

// An input of a node that lower() wants as codes: 0 or, of an Add, 1; the weights of a layer.
struct MissingQuantizer {
  uint32_t node = 0, input = 0;
  bool is_weights = false;
};

bool has_quantizers(const Graph& graph);  // at least one, of an activation or of weights
std::vector<MissingQuantizer> missing_quantizers(const Graph& graph);  // graph order
std::string describe(const Graph& graph, const MissingQuantizer& missing);

struct FilledTensor {
  std::string name;  // of the value that is quantised now; for weights, of the layer
  std::vector<std::string> readers;  // nodes
  bool is_weights = false;
  float scale = 0.0F;  // of an activation
  int32_t zero_point = 0;
};

// One quantiser for each value, shared by the edges that need it. Activations: the step rule of the
// options; weights: least squared error for each channel, rounded to nearest. Deterministic. A
// graph that lacks nothing is left unchanged; on an error every graph is.
Result<std::vector<FilledTensor>> fill_quantizers(Graph* graph, const CalibrationData& calibration,
                                                  const PtqOptions& options = {});

}  // namespace mpq::convert
