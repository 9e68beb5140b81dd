#include "converter/train/distil.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "converter/random.h"
#include "converter/train/checkpoint.h"
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

SequenceData take_texts(const SequenceData& all, std::span<const size_t> chosen) {
  SequenceData batch;
  for (const size_t i : chosen) {
    const size_t begin = all.starts[i], count = all.starts[i + 1] - begin;
    batch.add(std::span(all.ids).subspan(begin, count),
              all.types.empty() ? std::span<const int32_t>()
                                : std::span<const int32_t>(all.types).subspan(begin, count));
  }
  return batch;
}

class Distillation {
 public:
  Distillation(Tape* tape, Tape* teacher, const SequenceData& texts, const DistilOptions& options)
      : tape_(tape),
        teacher_(teacher),
        texts_(texts),
        options_(options),
        optimizer_(tape, options.optimizer),
        losses_(options.steps) {}

  Checked run(const std::vector<Matched>& values) {
    if (!options_.checkpoint.empty()) MPQ_CHECK(resume());
    while (step_ < options_.steps) {
      MPQ_CHECK(one_step(values));
      ++step_;
      const bool go = !options_.progress || options_.progress(step_, losses_[step_ - 1]);
      const bool due =
          step_ % std::max(options_.checkpoint_steps, 1U) == 0 || step_ == options_.steps || !go;
      if (!options_.checkpoint.empty() && due) MPQ_CHECK(save());
      if (!go)
        return Error{Status::kBusy, "stopped after step " + std::to_string(step_) + " of " +
                                        std::to_string(options_.steps)};
    }
    return Ok{};
  }

  DistilReport report() const {
    const size_t part = std::max<size_t>(losses_.size() / 10, 1);
    const auto mean = [&](size_t from) {
      double sum = 0.0;
      for (size_t i = from; i < std::min(from + part, losses_.size()); ++i) sum += losses_[i];
      return sum / static_cast<double>(part);
    };
    return {mean(0), mean(losses_.size() - std::min(part, losses_.size()))};
  }

 private:
  Checked one_step(const std::vector<Matched>& values) {
    uint64_t state = options_.seed + (step_ << 20);
    const std::vector<size_t> chosen = choose(texts_.count(), options_.batch, next_random(&state));
    const SequenceData batch = take_texts(texts_, chosen);
    MPQ_CHECK(teacher_->forward(batch));
    MPQ_CHECK(tape_->forward(batch));
    const double loss = matched_error(values, tape_, teacher_, &gradients_);
    if (!std::isfinite(loss))
      return Error{Status::kInternal, "step " + std::to_string(step_) +
                                          ": the loss is not finite, nor the output of " +
                                          tape_->first_not_finite() +
                                          "; a lower learning rate may help"};
    std::vector<Tape::Seed> seeds;
    for (size_t i = 0; i < values.size(); ++i) seeds.push_back({values[i].value, gradients_[i]});
    MPQ_CHECK(tape_->backward(seeds));
    MPQ_CHECK(optimizer_.step(options_.schedule.at(step_, options_.steps)));
    losses_[step_] = loss;
    return Ok{};
  }

  format::Digest fingerprint() const {
    format::Sha256 sha;
    const auto hash = [&](const auto& data) { sha.update(std::as_bytes(std::span(data))); };
    const OptimizerOptions& o = options_.optimizer;
    const Schedule& s = options_.schedule;
    const double numbers[] = {double(options_.batch),
                              double(options_.steps),
                              double(options_.seed),
                              options_.hidden_share,
                              double(o.method),
                              o.step_rate,
                              double(o.relative),
                              o.weight_decay,
                              s.rate,
                              double(s.decay),
                              s.warm_up,
                              s.last};
    hash(numbers);
    hash(texts_.ids);
    hash(texts_.types);
    hash(texts_.starts);
    for (Tape* tape : {tape_, teacher_}) {
      hash(print(tape->structure()));
      for (const Parameter& parameter : tape->parameters()) hash(tape->data(parameter.value));
    }
    return sha.finish();
  }

  std::vector<std::span<float>> tensors() {
    std::vector<std::span<float>> all;
    for (const Parameter& parameter : tape_->parameters())
      if (parameter.trained) all.push_back(tape_->data(parameter.value));
    for (std::vector<float>& state : optimizer_.state()) all.emplace_back(state);
    return all;
  }

  Checked resume() {
    run_ = fingerprint();
    MPQ_TRY(const std::optional<Snapshot> found, read_checkpoint_of(options_.checkpoint, run_));
    if (!found) return Ok{};
    const std::vector<std::span<float>> all = tensors();
    bool fits = found->tensors.size() == all.size() && found->numbers.size() == losses_.size() &&
                found->step <= options_.steps;
    for (size_t i = 0; fits && i < all.size(); ++i)
      fits = found->tensors[i].size() == all[i].size();
    if (!fits) return Error{Status::kCorrupt, options_.checkpoint + ": of another network"};
    for (size_t i = 0; i < all.size(); ++i)
      std::copy(found->tensors[i].begin(), found->tensors[i].end(), all[i].begin());
    losses_ = found->numbers;
    step_ = optimizer_.steps = found->step;
    return Ok{};
  }

  Checked save() {
    Snapshot checkpoint{run_, step_, losses_, {}};
    for (const std::span<float> tensor : tensors())
      checkpoint.tensors.emplace_back(tensor.begin(), tensor.end());
    return write_checkpoint(options_.checkpoint, checkpoint);
  }

  Tape* tape_;
  Tape* teacher_;
  const SequenceData& texts_;
  const DistilOptions& options_;
  Optimizer optimizer_;
  std::vector<double> losses_;
  std::vector<std::vector<float>> gradients_;
  uint64_t step_ = 0;
  format::Digest run_ = {};
};

}  // namespace

Result<DistilReport> distil(const Graph& real, Graph* graph, const SequenceData& texts,
                            const DistilOptions& options) {
  if (real.sequence_length == 0 || graph->sequence_length == 0)
    return Error{Status::kUnsupported, "hidden states are learned by networks of texts only"};
  if (options.batch == 0 || texts.count() < options.batch || options.steps == 0)
    return Error{Status::kInvalidArgument,
                 std::to_string(texts.count()) + " texts, " + std::to_string(options.steps) +
                     " steps of " + std::to_string(options.batch) +
                     ": a step needs at least one text, and all of them different"};
  MPQ_CHECK(check_sequences(real, texts));
  MPQ_TRY(const std::vector<Matched> values, matched_values(real, *graph, options.hidden_share));
  Graph inside = *graph;
  start_inside(&inside);
  MPQ_TRY(Tape tape, Tape::create(std::move(inside), {}));
  MPQ_TRY(Tape teacher, Tape::create(real, {}));
  Distillation run(&tape, &teacher, texts, options);
  MPQ_CHECK(run.run(values));
  *graph = tape.graph();
  return run.report();
}

}  // namespace mpq::convert::train
