#include "runtime/ops/pool.h"

namespace mpq::runtime {

Checked plan_avg_pool(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::AvgPoolAttrs>(n.attrs);
  const format::TensorId x = n.inputs[0], y = n.outputs[0];
  MPQ_CHECK(planner.prepare_read(x, Form::kPlanes));
  const Dims in = planner.dims(x);
  auto& args = add_pool_step(planner, node, kernels::PoolKind::kAverage,
                             {.kernel_h = a.kernel_h != 0 ? a.kernel_h : in.h,
                              .kernel_w = a.kernel_w != 0 ? a.kernel_w : in.w,
                              .stride_h = a.stride_h,
                              .stride_w = a.stride_w});
  args.zero_point = planner.tensor(x).quant.zero_point;
  args.multiplier = a.multiplier;
  args.bias = a.bias;
  args.lo = a.lo;
  args.hi = a.hi;
  if (is_code(planner.tensor(y).dtype)) {
    planner.write(y, &args.y);
  } else {
    args.out = kernels::Elem::f32;
    planner.write(y, Form::kCanonical, &args.dense);
  }
  return Ok{};
}

}  // namespace mpq::runtime
