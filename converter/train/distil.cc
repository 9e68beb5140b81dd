#include "converter/train/distil.h"

#include <algorithm>
#include <numeric>

#include "converter/train/matched.h"
#include "converter/train/quantizers.h"

namespace mpq::convert::train {
namespace {

// Normalisations, and the output.
Result<std::vector<Matched>> matched_values(const Graph& real, const Graph& graph,
                                            float hidden_share) {
  std::vector<Matched> values;
  for (const Node& node : real.nodes) {
    if (!std::holds_alternative<LayerNorm>(node.op) || node.output == real.outputs[0]) continue;
    const auto same = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                   [&](const Node& n) { return n.name == node.name; });
    if (same == graph.nodes.end())
      return Error{Status::kNotFound, "the network on codes has no node '" + node.name + "'"};
    values.push_back({same->output, node.output});
  }
  const float rest = values.empty() ? 1.0F : 1.0F - hidden_share;
  share_equally(hidden_share, values);
  values.push_back({graph.outputs[0], real.outputs[0], rest});
  return values;
}

TextLoss relative_errors(Tape* tape, Tape* teacher, const std::vector<Matched>& values) {
  TextLoss loss;
  loss.run = [tape, teacher, values, gradients = std::vector<std::vector<float>>()](
                 std::span<const size_t>, const SequenceData& batch,
                 std::vector<Tape::Seed>* seeds) mutable -> Result<double> {
    MPQ_CHECK(teacher->forward(batch));
    const double error = matched_error(values, tape, teacher, &gradients);
    for (size_t i = 0; i < values.size(); ++i) seeds->push_back({values[i].value, gradients[i]});
    return error;
  };
  loss.fingerprint = [teacher, values](format::Sha256* sha) {
    hash_tape(sha, teacher);
    for (const Matched& each : values) sha->update(std::as_bytes(std::span(&each.share, 1)));
  };
  return loss;
}

// Of the first and of the last tenth.
DistilReport ends_of(const std::vector<double>& losses) {
  const size_t part = std::max<size_t>(losses.size() / 10, 1);
  const auto mean = [&](size_t from) {
    const auto begin = losses.begin() + static_cast<ptrdiff_t>(from);
    return std::accumulate(begin, begin + static_cast<ptrdiff_t>(part), 0.0) /
           static_cast<double>(part);
  };
  return {mean(0), mean(losses.size() - part)};
}

}  // namespace

Result<DistilReport> distil(const Graph& real, Graph* graph, const SequenceData& texts,
                            const DistilOptions& options) {
  if (real.sequence_length == 0 || graph->sequence_length == 0)
    return Error{Status::kUnsupported, "hidden states are learned by networks of texts only"};
  MPQ_TRY(const std::vector<Matched> values, matched_values(real, *graph, options.hidden_share));
  Graph inside = *graph;
  start_within(options.seed, &inside);
  const TapeOptions numbers{.bfloat16 = options.bfloat16};
  MPQ_TRY(Tape tape, Tape::create(std::move(inside), numbers));
  MPQ_TRY(Tape teacher, Tape::create(real, numbers));
  MPQ_TRY(const std::vector<double> losses,
          fit_texts(&tape, texts, options, relative_errors(&tape, &teacher, values)));
  *graph = tape.graph();
  return ends_of(losses);
}

}  // namespace mpq::convert::train
