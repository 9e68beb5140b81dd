#include "kernels/norm/norm.h"
#include "runtime/ops/range_step.h"

namespace mpq::runtime {

Checked plan_layer_norm(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::LayerNormAttrs>(n.attrs);
  const format::TensorId x = n.inputs[0];
  const format::TensorId residual = format::operand(n.inputs, format::kNormResidual);
  MPQ_CHECK(planner.prepare_read(x, Form::kCanonical));
  if (residual != format::kNoTensor) MPQ_CHECK(planner.prepare_read(residual, Form::kCanonical));
  auto& args = add_range_step<kernels::LayerNormArgs>(
      planner, node, kernels::select_layer_norm(planner.options().isa));
  planner.read(x, Form::kCanonical, &args.x);
  if (residual != format::kNoTensor) planner.read(residual, Form::kCanonical, &args.residual);
  args.width = planner.dims(x).c;
  args.gamma = planner.constant<float>(n, format::kGamma);
  args.beta = planner.constant<float>(n, format::kBeta);
  args.epsilon = a.epsilon;
  planner.write(n.outputs[0], Form::kDense, &args.y);
  write_second(planner, n, a, &args);
  if (format::operand(n.inputs, format::kSecondGamma) != format::kNoTensor) {
    args.second_gamma = planner.constant<float>(n, format::kSecondGamma);
    args.second_beta = planner.constant<float>(n, format::kSecondBeta);
  }
  planner.on_resize(planner.rows(x), [&args, rows = planner.rows(x)](const Live& live) {
    return args.tokens = live.rows(rows);
  });
  return Ok{};
}

}  // namespace mpq::runtime
