#include "kernels/sequence/sequence.h"
#include "runtime/ops/range_step.h"

namespace mpq::runtime {

Checked plan_sequence_pool(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::SequencePoolAttrs>(n.attrs);
  MPQ_CHECK(planner.prepare_read(n.inputs[0], Form::kCanonical));
  auto& args = add_range_step<kernels::SequencePoolArgs>(
      planner, node, "sequence_pool_f32_ref", kernels::kIsaScalar, kernels::pool_sequences);
  planner.read(n.inputs[0], Form::kCanonical, &args.x);
  args.starts = planner.starts();
  args.width = planner.dims(n.outputs[0]).c;
  args.mean = a.mode == format::SequencePoolAttrs::Mode::kMean;
  args.normalise = a.normalise;
  planner.write(n.outputs[0], Form::kDense, &args.y);
  planner.on_resize(Rows::kTokens,
                    [&args](const Live& live) { return args.sequences = live.sequences; });
  return Ok{};
}

}  // namespace mpq::runtime
