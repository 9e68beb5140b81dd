#include "kernels/attention/attention.h"

#include "runtime/ops/op.h"

namespace mpq::runtime {
namespace {

struct AttentionStep {
  kernels::AttentionArgs args;
  const kernels::AttentionKernel* kernel = nullptr;
};

void run_attention(const void* args, const kernels::ConvPart& part,
                   const kernels::KernelContext& context) {
  const auto& step = *static_cast<const AttentionStep*>(args);
  step.kernel->run(step.args, {part.unit_begin, part.unit_end}, context);
}

}  // namespace

Checked plan_attention(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::AttentionAttrs>(n.attrs);
  const format::TensorId qkv = n.inputs[format::kQkv], y = n.outputs[0];
  MPQ_CHECK(planner.prepare_read(qkv, Form::kPlanes));
  const kernels::AttentionKernel& kernel = kernels::select_attention(planner.options().isa);
  auto& step = planner.add_step<AttentionStep>(node, kernel.name, kernel.isa, run_attention);
  step.kernel = &kernel;
  kernels::AttentionArgs& args = step.args;
  args.starts = planner.starts();
  args.heads = a.heads;
  args.head_size = planner.dims(y).c / a.heads;
  args.max_length = planner.model().sequence_length;
  args.score_scale = planner.constant<float>(n, format::kScoreScale);
  args.value_scale = planner.constant<float>(n, format::kValueScale);
  if (format::operand(n.inputs, format::kRelativeBias) != format::kNoTensor)
    args.relative_bias = planner.constant<float>(n, format::kRelativeBias);
  args.out_bias = a.out_bias;
  args.lo = a.lo;
  args.hi = a.hi;
  planner.read(qkv, &args.qkv);
  planner.write(y, &args.y);
  planner.step().scratch_bytes = kernel.scratch_bytes(args.head_size, args.max_length);
  planner.on_resize(Rows::kTokens, [&args](const Live& live) {
    args.sequences = live.sequences;
    return kernels::attention_units(args);
  });
  // Grows with the square of each length, so it is no share of the largest run's.
  if (Step& s = planner.step(); s.resize)
    s.resize = [&args, resize = std::move(s.resize)](Step& to, const Live& live) {
      resize(to, live);
      to.macs = kernels::attention_macs(args);
    };
  return Ok{};
}

}  // namespace mpq::runtime
