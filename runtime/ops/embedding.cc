#include "kernels/sequence/sequence.h"
#include "runtime/ops/range_step.h"

namespace mpq::runtime {

Checked plan_embedding(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::EmbeddingAttrs>(n.attrs);
  struct {
    const char* name = "embedding_f32_ref";
    kernels::IsaMask isa = kernels::kIsaScalar;
    void (*run)(const kernels::EmbeddingArgs&, const kernels::WorkRange&) = kernels::embed;
  } kernel;
  auto& args = add_range_step<kernels::EmbeddingArgs>(planner, node, kernel);
  const format::Tensor& words = planner.tensor(n.inputs[format::kWords]);
  planner.read(n.inputs[format::kIds], Form::kCanonical, &args.ids);
  if (planner.has_input(n, format::kTypes)) {
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
  planner.on_resize([&args](const Live& live) {
    args.sequences = live.sequences;
    return live.sequences;
  });
  return Ok{};
}

}  // namespace mpq::runtime
