// Passes over the float graph, in their order. None changes what the network computes; run_passes
// can prove that on a random input.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "converter/graph.h"

namespace mpq::convert {

struct Pass {
  const char* name;
  Checked (*run)(Graph* graph);
};

std::span<const Pass> float_passes();

struct PassOptions {
  // Called after each pass, e.g. to print the graph for --dump-after.
  std::function<void(const Pass& pass, const Graph& graph)> after;
  // Evaluate before and after each pass on one random input; they must agree within `tolerance`,
  // relative to the largest output.
  bool verify = false;
  float tolerance = 1e-4F;
};

// On an error the graph is in the state that the failing pass left.
Checked run_passes(Graph* graph, const PassOptions& options = {});
Checked run_passes(Graph* graph, std::span<const Pass> passes, const PassOptions& options = {});

// One file each.
Checked infer_shapes(Graph* graph);    // recomputes every output's shape from the inputs'
Checked fold_constants(Graph* graph);  // removes nodes that do nothing, merges activation clamps
Checked fold_bn(Graph* graph);         // BatchNorm into the Conv or Linear before it

}  // namespace mpq::convert
