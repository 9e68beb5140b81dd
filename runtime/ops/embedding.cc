#include "kernels/sequence/sequence.h"
#include "runtime/ops/range_step.h"

namespace mpq::runtime {

Checked plan_embedding(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::EmbeddingAttrs>(n.attrs);
  auto& args = add_range_step<kernels::EmbeddingArgs>(planner, node, "embedding_f32_ref",
                                                      kernels::kIsaScalar, kernels::embed);
  const format::Tensor& words = planner.tensor(n.inputs[format::kWords]);
  planner.read(n.inputs[format::kIds], Form::kCanonical, &args.ids);
  if (n.inputs[format::kTypes] != format::kNoTensor) {
    planner.read(n.inputs[format::kTypes], Form::kCanonical, &args.types);
    args.type_rows = planner.constant<float>(n, format::kTypeRows);
  }
  if (is_code(words.dtype)) {
    args.word_codes = planner.constant<int8_t>(n, format::kWords);
    args.word_scale = planner.constant<float>(n, format::kWordScale);
  } else {
    args.words = planner.constant<float>(n, format::kWords);
  }
  args.positions = planner.constant<float>(n, format::kPositions);
  args.position_offset = a.position_offset;
  args.width = planner.dims(n.outputs[0]).c;
  args.starts = planner.starts();
  planner.write(n.outputs[0], Form::kDense, &args.y);
  planner.on_resize(Rows::kTokens,
                    [&args](const Live& live) { return args.sequences = live.sequences; });
  return Ok{};
}

}  // namespace mpq::runtime
