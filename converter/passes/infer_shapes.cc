#include "converter/passes/pass.h"

namespace mpq::convert {

Checked infer_shapes(Graph* graph) {
  for (Node& node : graph->nodes) {
    MPQ_TRY(graph->values[node.output].shape, infer_shape(*graph, node));
  }
  return Ok{};
}

}  // namespace mpq::convert
