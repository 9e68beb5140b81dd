#include "converter/train/fit_texts.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "converter/train/checkpoint.h"
#include "converter/train/images.h"
#include "converter/train/loss.h"

namespace mpq::convert::train {
namespace {

template <typename Numbers>
void hash(format::Sha256* sha, const Numbers& numbers) {
  sha->update(std::as_bytes(std::span(numbers)));
}

class TextRun {
 public:
  TextRun(Tape* tape, const SequenceData& texts, const TextRecipe& recipe, const TextLoss& loss)
      : tape_(tape),
        texts_(texts),
        recipe_(recipe),
        loss_(loss),
        optimizer_(tape, recipe.optimizer),
        losses_(recipe.steps) {}

  Result<std::vector<double>> run() {
    if (!recipe_.checkpoint.empty()) MPQ_CHECK(resume());
    while (step_ < recipe_.steps) {
      MPQ_CHECK(one_step());
      ++step_;
      const bool go = !recipe_.progress || recipe_.progress(step_, losses_[step_ - 1]);
      const bool due =
          step_ % std::max(recipe_.checkpoint_steps, 1U) == 0 || step_ == recipe_.steps || !go;
      if (!recipe_.checkpoint.empty() && due) MPQ_CHECK(save());
      if (!go)
        return Error{Status::kBusy, "stopped after step " + std::to_string(step_) + " of " +
                                        std::to_string(recipe_.steps)};
    }
    return losses_;
  }

 private:
  Checked one_step() {
    const uint64_t per_pass = texts_.count() / recipe_.batch, at = step_ % per_pass;
    if (order_.empty() || at == 0)
      order_ = shuffled(texts_.count(), recipe_.seed, step_ / per_pass);
    const auto chosen = std::span(order_).subspan(at * recipe_.batch, recipe_.batch);
    const SequenceData batch = take_texts(texts_, chosen);
    MPQ_CHECK(tape_->forward(batch));
    std::vector<Tape::Seed> gradients;
    MPQ_TRY(const double loss, loss_.run(chosen, batch, &gradients));
    if (!std::isfinite(loss))
      return Error{Status::kInternal, "step " + std::to_string(step_) +
                                          ": the loss is not finite, nor the output of " +
                                          tape_->first_not_finite() +
                                          "; a lower learning rate may help"};
    MPQ_CHECK(tape_->backward(gradients));
    MPQ_CHECK(optimizer_.step(recipe_.schedule.at(step_, recipe_.steps)));
    losses_[step_] = loss;
    return Ok{};
  }

  format::Digest fingerprint() const {
    format::Sha256 sha;
    const OptimizerOptions& o = recipe_.optimizer;
    const Schedule& s = recipe_.schedule;
    const double numbers[] = {double(recipe_.batch),
                              double(recipe_.steps),
                              double(recipe_.seed),
                              double(o.method),
                              o.step_rate,
                              double(o.relative),
                              o.weight_decay,
                              o.largest_norm,
                              s.rate,
                              double(s.decay),
                              s.warm_up,
                              s.last};
    hash(&sha, numbers);
    hash(&sha, texts_.ids);
    hash(&sha, texts_.types);
    hash(&sha, texts_.starts);
    hash_tape(&sha, tape_);
    loss_.fingerprint(&sha);
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
    MPQ_TRY(const std::optional<Snapshot> found, read_checkpoint_of(recipe_.checkpoint, run_));
    if (!found) return Ok{};
    const std::vector<std::span<float>> all = tensors();
    bool fits = found->tensors.size() == all.size() && found->numbers.size() == losses_.size() &&
                found->step <= recipe_.steps;
    for (size_t i = 0; fits && i < all.size(); ++i)
      fits = found->tensors[i].size() == all[i].size();
    if (!fits) return Error{Status::kCorrupt, recipe_.checkpoint + ": of another network"};
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
    return write_checkpoint(recipe_.checkpoint, checkpoint);
  }

  Tape* tape_;
  const SequenceData& texts_;
  const TextRecipe& recipe_;
  const TextLoss& loss_;
  Optimizer optimizer_;
  std::vector<double> losses_;
  std::vector<size_t> order_;
  uint64_t step_ = 0;
  format::Digest run_ = {};
};

Checked check_labels(Tape* tape, const SequenceData& texts, const std::vector<int32_t>& labels) {
  const Graph& graph = tape->structure();
  const auto classes = static_cast<int32_t>(graph.values[tape->output()].shape[1]);
  if (labels.size() != texts.count())
    return Error{Status::kInvalidArgument, std::to_string(labels.size()) + " labels of " +
                                               std::to_string(texts.count()) + " texts"};
  for (size_t i = 0; i < labels.size(); ++i)
    if (labels[i] < 0 || labels[i] >= classes)
      return Error{Status::kInvalidArgument, "text " + std::to_string(i) + ": label " +
                                                 std::to_string(labels[i]) + " of a network of " +
                                                 std::to_string(classes) + " classes"};
  return Ok{};
}

}  // namespace

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

void hash_tape(format::Sha256* sha, Tape* tape) {
  hash(sha, print(tape->structure()));
  for (const Parameter& parameter : tape->parameters()) hash(sha, tape->data(parameter.value));
}

Result<std::vector<double>> fit_texts(Tape* tape, const SequenceData& texts,
                                      const TextRecipe& recipe, const TextLoss& loss) {
  if (recipe.batch == 0 || texts.count() < recipe.batch || recipe.steps == 0)
    return Error{Status::kInvalidArgument,
                 std::to_string(texts.count()) + " texts, " + std::to_string(recipe.steps) +
                     " steps of " + std::to_string(recipe.batch) +
                     ": a step needs at least one text, and all of them different"};
  MPQ_CHECK(check_sequences(tape->structure(), texts));
  return TextRun(tape, texts, recipe, loss).run();
}

TextLoss classification(Tape* tape, const std::vector<int32_t>& labels) {
  TextLoss loss;
  loss.run = [tape, labels, gradient = std::vector<float>()](
                 std::span<const size_t> chosen, const SequenceData& batch,
                 std::vector<Tape::Seed>* gradients) mutable -> Result<double> {
    std::vector<int32_t> own;
    for (const size_t i : chosen) own.push_back(i < labels.size() ? labels[i] : -1);
    MPQ_CHECK(check_labels(tape, batch, own));
    const std::span<const float> y = tape->data(tape->output());
    gradient.assign(y.size(), 0.0F);
    gradients->push_back({tape->output(), gradient});
    return cross_entropy(y, y.size() / own.size(), own, {1.0F, gradient});
  };
  loss.fingerprint = [labels](format::Sha256* sha) { hash(sha, labels); };
  return loss;
}

Result<double> accuracy(Tape* tape, const SequenceData& texts, const std::vector<int32_t>& labels) {
  constexpr size_t kAtOnce = 64;
  MPQ_CHECK(check_labels(tape, texts, labels));
  size_t correct = 0;
  std::vector<size_t> chosen;
  for (size_t first = 0; first < labels.size(); first += kAtOnce) {
    chosen.resize(std::min(kAtOnce, labels.size() - first));
    std::iota(chosen.begin(), chosen.end(), first);
    MPQ_CHECK(tape->forward(take_texts(texts, chosen)));
    const std::span<const float> y = tape->data(tape->output());
    correct +=
        count_correct(y, y.size() / chosen.size(), std::span(labels).subspan(first, chosen.size()));
  }
  return static_cast<double>(correct) / static_cast<double>(labels.size());
}

}  // namespace mpq::convert::train
