#include "runtime/ops/pool.h"

namespace mpq::runtime {

kernels::PoolArgs& add_pool_step(Planner& planner, uint32_t node, kernels::PoolKind kind,
                                 kernels::PoolShape shape) {
  const format::Node& n = planner.model().nodes[node];
  const format::TensorId x = n.inputs[0];
  const Dims in = planner.dims(x), out = planner.dims(n.outputs[0]);
  shape.n = in.n;
  shape.c = in.c;
  shape.h = in.h;
  shape.w = in.w;
  shape.oh = out.h;
  shape.ow = out.w;
  const uint32_t cb = planner.planes_of(x).cb;
  const auto& kernel = kernels::select_pool(kind, shape, cb, planner.options().isa);
  auto& args = add_range_step<kernels::PoolArgs>(planner, node, kernel);
  args.shape = shape;
  planner.read(x, &args.x);
  split_range(planner, kernels::pool_units(shape, cb));
  return args;
}

Checked plan_max_pool(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::MaxPoolAttrs>(n.attrs);
  MPQ_CHECK(planner.prepare_read(n.inputs[0], Form::kPlanes));
  auto& args = add_pool_step(planner, node, kernels::PoolKind::kMax,
                             {.kernel_h = a.kernel_h,
                              .kernel_w = a.kernel_w,
                              .stride_h = a.stride_h,
                              .stride_w = a.stride_w,
                              .pad_top = a.pad_top,
                              .pad_left = a.pad_left});
  planner.write(n.outputs[0], &args.y);
  return Ok{};
}

}  // namespace mpq::runtime
