#include "kernels/quantize/quantize.h"

#include "runtime/ops/range_step.h"

namespace mpq::runtime {

Checked plan_quantize(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const format::TensorId x = n.inputs[0], y = n.outputs[0];
  const format::Tensor& codes = planner.tensor(y);
  const Dims d = planner.dims(y);
  MPQ_CHECK(planner.prepare_read(x, Form::kCanonical));
  kernels::QuantizeArgs args;
  args.shape = {d.n, d.c, d.h, d.w};
  args.strides = kernels::nchw(d.c, d.h, d.w);
  args.y = planner.planes_of(y);
  args.scale = codes.quant.scale;
  args.zero_point = codes.quant.zero_point;
  args.hi = max_code(codes.dtype);
  const auto& kernel = kernels::select_quantize(args, planner.options().isa);
  auto& step = add_range_step<kernels::QuantizeArgs>(planner, node, kernel);
  step = args;
  planner.read(x, Form::kCanonical, &step.x);
  planner.write(y, &step.y);
  split_range(planner, kernels::codes_units(step.shape, step.y.cb));
  planner.on_resize(planner.rows(x), [&step, rows = planner.rows(x)](const Live& live) {
    step.shape.n = live.rows(rows);
    return kernels::codes_units(step.shape, step.y.cb);
  });
  return Ok{};
}

}  // namespace mpq::runtime
