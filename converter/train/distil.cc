#include "converter/train/distil.h"

#include <algorithm>
#include <numeric>

#include "converter/train/loss.h"
#include "converter/train/quantizers.h"

namespace mpq::convert::train {
namespace {

// A value in both networks, and what its error counts.
struct Matched {
  ValueId value, target;
  float share;
};

Result<std::vector<Matched>> matched_values(const Graph& real, const Graph& graph,
                                            float hidden_share) {
  std::vector<Matched> hidden;
  for (const Node& node : real.nodes) {
    if (!std::holds_alternative<LayerNorm>(node.op) || node.output == real.outputs[0]) continue;
    const auto same = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                   [&](const Node& n) { return n.name == node.name; });
    if (same == graph.nodes.end())
      return Error{Status::kNotFound, "the network on codes has no node '" + node.name + "'"};
    hidden.push_back({same->output, node.output, 0.0F});
  }
  for (Matched& each : hidden) each.share = hidden_share / static_cast<float>(hidden.size());
  hidden.push_back(
      {graph.outputs[0], real.outputs[0], hidden.empty() ? 1.0F : 1.0F - hidden_share});
  return hidden;
}

TextLoss relative_errors(Tape* tape, Tape* teacher, const std::vector<Matched>& values) {
  TextLoss loss;
  loss.run = [tape, teacher, values, gradients = std::vector<std::vector<float>>(values.size())](
                 std::span<const size_t>, const SequenceData& batch,
                 std::vector<Tape::Seed>* seeds) mutable -> Result<double> {
    MPQ_CHECK(teacher->forward(batch));
    double sum = 0.0;
    for (size_t i = 0; i < values.size(); ++i) {
      const Matched& each = values[i];
      const std::span<const float> y = tape->data(each.value), target = teacher->data(each.target);
      const std::vector<float> zero(target.size());
      const double energy = std::max(squared_error(zero, target, {}), 1e-12);
      gradients[i].assign(y.size(), 0.0F);
      sum += squared_error(y, target, {static_cast<float>(each.share / energy), gradients[i]});
      seeds->push_back({each.value, gradients[i]});
    }
    return sum;
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
  start_inside(&inside);
  const TapeOptions numbers{.bfloat16 = options.bfloat16};
  MPQ_TRY(Tape tape, Tape::create(std::move(inside), numbers));
  MPQ_TRY(Tape teacher, Tape::create(real, numbers));
  MPQ_TRY(const std::vector<double> losses,
          fit_texts(&tape, texts, options, relative_errors(&tape, &teacher, values)));
  *graph = tape.graph();
  return ends_of(losses);
}

}  // namespace mpq::convert::train
