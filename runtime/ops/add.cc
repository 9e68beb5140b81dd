#include "kernels/eltwise/eltwise.h"
#include "runtime/ops/range_step.h"

namespace mpq::runtime {

Checked plan_add(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::AddAttrs>(n.attrs);
  const format::TensorId x = n.inputs[0], other = n.inputs[1], y = n.outputs[0];
  MPQ_CHECK(planner.prepare_read(x, Form::kPlanes));
  MPQ_CHECK(planner.prepare_read(other, Form::kPlanes));
  const auto& kernel = kernels::select_add(planner.options().isa);
  auto& args = add_range_step<kernels::AddArgs>(planner, node, kernel);
  const Dims d = planner.dims(x);
  args.shape = {d.n, d.c, d.h, d.w};
  planner.read(x, &args.a);
  planner.read(other, &args.b);
  planner.write(y, &args.y);
  args.a_zero_point = planner.tensor(x).quant.zero_point;
  args.b_zero_point = planner.tensor(other).quant.zero_point;
  args.a_scale = a.scale_a;
  args.b_scale = a.scale_b;
  args.bias = a.bias;
  args.lo = a.lo;
  args.hi = a.hi;
  write_second(planner, n, a, &args);
  split_range(planner, kernels::add_units(args.shape, args.a.cb));
  planner.on_resize(planner.rows(x), [&args, rows = planner.rows(x)](const Live& live) {
    args.shape.n = live.rows(rows);
    return kernels::add_units(args.shape, args.a.cb);
  });
  return Ok{};
}

}  // namespace mpq::runtime
