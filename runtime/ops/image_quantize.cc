#include "kernels/quantize/quantize.h"
#include "runtime/ops/range_step.h"

namespace mpq::runtime {

Checked plan_image_quantize(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const format::TensorId x = n.inputs[0], y = n.outputs[0];
  const Dims d = planner.dims(y);
  MPQ_CHECK(planner.prepare_read(x, Form::kCanonical));
  kernels::ImageQuantizeArgs args;
  args.shape = {d.n, d.c, d.h, d.w};
  args.table = reinterpret_cast<const uint8_t*>(planner.tensor(n.inputs[1]).data.data());
  args.y = planner.planes_of(y);
  const auto& kernel = kernels::select_image_quantize(args, planner.options().isa);
  auto& step = add_range_step<kernels::ImageQuantizeArgs>(planner, node, kernel);
  step = args;
  planner.read(x, Form::kCanonical, &step.pixels);
  planner.write(y, &step.y);
  split_range(planner, kernels::codes_units(step.shape, step.y.cb));
  return Ok{};
}

}  // namespace mpq::runtime
