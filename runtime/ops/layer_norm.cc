#include "kernels/norm/norm.h"
#include "runtime/ops/range_step.h"

namespace mpq::runtime {

Checked plan_layer_norm(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::LayerNormAttrs>(n.attrs);
  const format::TensorId x = n.inputs[0];
  const bool residual = planner.has_input(n, format::kNormResidual);
  MPQ_CHECK(planner.prepare_read(x, Form::kCanonical));
  if (residual) MPQ_CHECK(planner.prepare_read(n.inputs[format::kNormResidual], Form::kCanonical));
  auto& args = add_range_step<kernels::LayerNormArgs>(
      planner, node, kernels::select_layer_norm(planner.options().isa));
  planner.read(x, Form::kCanonical, &args.x);
  if (residual) planner.read(n.inputs[format::kNormResidual], Form::kCanonical, &args.residual);
  args.width = planner.dims(x).c;
  args.gamma = planner.constant<float>(n, format::kGamma);
  args.beta = planner.constant<float>(n, format::kBeta);
  args.epsilon = a.epsilon;
  planner.write(n.outputs[0], Form::kDense, &args.y);
  if (n.outputs.size() > 1 && n.outputs[1] != format::kNoTensor) {
    planner.write(n.outputs[1], &args.second);
    args.second_scale = a.second_scale;
    args.second_bias = a.second_bias;
    args.second_lo = a.second_lo;
    args.second_hi = a.second_hi;
  }
  planner.on_resize(
      [&args, rows = planner.rows(x)](const Live& live) { return args.tokens = live.rows(rows); });
  return Ok{};
}

}  // namespace mpq::runtime
