// Semantic checks: what a well-formed file can still lie about (indices, shapes, ranges, overflow).
#pragma once

#include "format/model.h"
#include "format/status.h"

namespace mpq::format {

// Everything the runtime relies on, in the order of the loader checklist. Shapes and types of node
// outputs are inferred again and compared with the stated ones.
Checked validate(const Model& model);

// Inferred shape of output 0 of a node; the one place where shape rules are written.
Result<Shape> infer_shape(const Model& model, const Node& node);

}  // namespace mpq::format
