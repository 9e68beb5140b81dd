#include "runtime/ops/dense.h"

namespace mpq::runtime {

// A matrix is one image per row, of one pixel; plan_dense joins them.
Checked plan_linear(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const Dims x = planner.dims(n.inputs[format::kX]), y = planner.dims(n.outputs[0]);
  return plan_dense(planner, node, {.n = x.n, .c = x.c, .o = y.c},
                    std::get<format::LinearAttrs>(n.attrs).requant, 0);
}

}  // namespace mpq::runtime
