#include "converter/train/fit.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>

#include "converter/train/checkpoint.h"
#include "converter/train/loss.h"

namespace mpq::convert::train {
namespace {

using Clock = std::chrono::steady_clock;

// Sums that a run keeps, as the numbers of a checkpoint.
enum Sum : size_t { kLoss, kCorrect, kSeen, kSums };

template <typename T>
void hash(format::Sha256* sha, std::span<const T> data) {
  sha->update(std::as_bytes(data));
}
template <typename T>
void hash(format::Sha256* sha, const T& number) {
  hash(sha, std::span<const T>(&number, 1));
}

class Run {
 public:
  Run(Tape* tape, Tape* teacher, const ImageSet& images, const Recipe& recipe)
      : tape_(tape),
        teacher_(teacher),
        images_(images),
        recipe_(recipe),
        optimizer_(tape, recipe.optimizer),
        total_(total_steps(recipe, images.count())),
        per_epoch_(images.count() / recipe.batch),
        pixels_(recipe.batch * images.image_bytes()),
        labels_(images.labels.empty() ? 0 : recipe.batch),
        sums_(kSums) {}

  Result<Fitted> run(const std::function<bool(const Progress&)>& progress) {
    MPQ_CHECK(check());
    if (!recipe_.checkpoint.empty()) MPQ_CHECK(resume());
    Clock::time_point saved = Clock::now();
    uint64_t saved_step = step_;
    while (step_ < total_) {
      MPQ_CHECK(one_step());
      ++step_;
      const bool go = !progress || progress(status());
      const bool due = Clock::now() - saved >= std::chrono::seconds(recipe_.checkpoint_seconds) ||
                       (recipe_.checkpoint_steps != 0 && step_ % recipe_.checkpoint_steps == 0) ||
                       step_ == total_ || !go;
      if (!recipe_.checkpoint.empty() && due && step_ != saved_step) {
        MPQ_CHECK(save());
        saved = Clock::now();
        saved_step = step_;
      }
      if (!go)
        return Error{Status::kBusy, "stopped after step " + std::to_string(step_) + " of " +
                                        std::to_string(total_)};
    }
    return result();
  }

 private:
  Checked check() const {
    const auto bad = [](const std::string& what) { return Error{Status::kInvalidArgument, what}; };
    const Graph& graph = tape_->structure();
    const Shape want{1, ImageSet::kChannels, images_.height, images_.width};
    if (graph.inputs.size() != 1 || graph.values[graph.inputs[0]].shape != want)
      return bad("images of " + to_string(want) + " for a network of other inputs");
    if (per_epoch_ == 0)
      return bad(std::to_string(images_.count()) + " images are fewer than a batch of " +
                 std::to_string(recipe_.batch));
    if (images_.labels.empty() && teacher_ == nullptr)
      return bad("images without labels need a network to learn from");
    const auto classes = static_cast<int32_t>(graph.values[tape_->output()].shape[1]);
    for (const int32_t label : images_.labels)
      if (label < 0 || label >= classes)
        return bad("label " + std::to_string(label) + " of a network of " +
                   std::to_string(classes) + " classes");
    return Ok{};
  }

  std::vector<std::span<float>> tensors() {
    std::vector<std::span<float>> all;
    for (const Parameter& parameter : tape_->parameters())
      all.push_back(tape_->data(parameter.value));
    for (std::vector<float>& state : optimizer_.state()) all.emplace_back(state);
    return all;
  }

  Checked resume() {
    run_ = fingerprint(tape_, teacher_, images_, recipe_);
    MPQ_TRY(const std::optional<Snapshot> found, read_checkpoint_of(recipe_.checkpoint, run_));
    if (!found) return Ok{};
    const std::vector<std::span<float>> all = tensors();
    bool fits = found->tensors.size() == all.size() && found->numbers.size() >= kSums &&
                found->numbers.size() % 2 == kSums % 2;
    for (size_t i = 0; fits && i < all.size(); ++i)
      fits = found->tensors[i].size() == all[i].size();
    if (!fits) return Error{Status::kCorrupt, recipe_.checkpoint + ": of another network"};
    for (size_t i = 0; i < all.size(); ++i)
      std::copy(found->tensors[i].begin(), found->tensors[i].end(), all[i].begin());
    const auto numbers = found->numbers.begin(), half = numbers + kSums;
    const auto middle = half + (found->numbers.end() - half) / 2;
    sums_.assign(numbers, half);
    losses_.assign(half, middle);
    correct_.assign(middle, found->numbers.end());
    step_ = optimizer_.steps = found->step;
    return Ok{};
  }

  Checked save() {
    Snapshot checkpoint{run_, step_, sums_, {}};
    for (const std::vector<double>* half : {&losses_, &correct_})
      checkpoint.numbers.insert(checkpoint.numbers.end(), half->begin(), half->end());
    for (const std::span<float> tensor : tensors())
      checkpoint.tensors.emplace_back(tensor.begin(), tensor.end());
    return write_checkpoint(recipe_.checkpoint, checkpoint);
  }

  void take_batch() {
    const uint64_t epoch = step_ / per_epoch_, at = step_ % per_epoch_;
    if (order_.empty() || at == 0) order_ = shuffled(images_.count(), recipe_.seed, epoch);
    const auto chosen = std::span(order_).subspan(at * recipe_.batch, recipe_.batch);
    take_images(images_, chosen, recipe_.augmentation, recipe_.seed + (step_ << 20), pixels_);
    for (size_t i = 0; i < labels_.size(); ++i) labels_[i] = images_.labels[chosen[i]];
  }

  Checked one_step() {
    take_batch();
    if (step_ % per_epoch_ == 0) sums_[kLoss] = sums_[kCorrect] = sums_[kSeen] = 0.0;
    const double done = static_cast<double>(step_) / static_cast<double>(total_);
    MPQ_CHECK(tape_->forward(pixels_, done < 1.0 - recipe_.frozen_norms));
    const std::span<const float> y = tape_->data(tape_->output());
    const size_t classes = y.size() / recipe_.batch;
    gradient_.assign(y.size(), 0.0F);
    double loss = 0.0, correct = 0.0;
    float taught = 0.0F;
    if (teacher_ != nullptr) {
      taught = labels_.empty() ? 1.0F : recipe_.teacher_share;
      float of_output = taught;
      for (const Matched& each : recipe_.hidden) of_output -= each.share;
      MPQ_CHECK(teacher_->forward(pixels_, false));
      loss += distillation(y, teacher_->data(teacher_->output()), classes, recipe_.temperature,
                           {of_output, gradient_});
      loss += matched_error(recipe_.hidden, tape_, teacher_, &hidden_);
    }
    if (!labels_.empty()) {
      loss += cross_entropy(y, classes, labels_, {1.0F - taught, gradient_});
      correct = static_cast<double>(count_correct(y, classes, labels_));
      sums_[kCorrect] += correct;
    }
    if (!std::isfinite(loss)) {
      const std::string layer = tape_->first_not_finite();
      return Error{Status::kInternal, "step " + std::to_string(step_) + ": the loss is not finite" +
                                          (layer.empty() ? "" : ", nor the output of " + layer) +
                                          "; a lower learning rate may help"};
    }
    std::vector<Tape::Seed> seeds = {{tape_->output(), gradient_}};
    for (size_t i = 0; i < hidden_.size(); ++i)
      seeds.push_back({recipe_.hidden[i].value, hidden_[i]});
    MPQ_CHECK(tape_->backward(seeds));
    const Checked moved = optimizer_.step(recipe_.schedule.at(step_, total_));
    if (!moved.ok())
      return Error{moved.error().code,
                   "step " + std::to_string(step_) + ": " + moved.error().message};
    sums_[kLoss] += loss;
    sums_[kSeen] += 1.0;
    if (step_ >= total_ / 2) {
      losses_.push_back(loss);
      correct_.push_back(correct);
    }
    return Ok{};
  }

  Progress status() const {
    return {step_, total_, sums_[kLoss] / sums_[kSeen],
            sums_[kCorrect] / (sums_[kSeen] * recipe_.batch),
            recipe_.schedule.at(step_ - 1, total_)};
  }

  Fitted result() const {
    const double seen = std::max(sums_[kSeen], 1.0);
    return {total_, sums_[kLoss] / seen, sums_[kCorrect] / (seen * recipe_.batch), losses_,
            correct_};
  }

  Tape* tape_;
  Tape* teacher_;
  const ImageSet& images_;
  const Recipe& recipe_;
  Optimizer optimizer_;
  uint64_t total_, per_epoch_, step_ = 0;
  std::vector<float> pixels_, gradient_;
  std::vector<std::vector<float>> hidden_;  // gradients
  std::vector<int32_t> labels_;
  std::vector<double> sums_, losses_, correct_;
  std::vector<size_t> order_;
  format::Digest run_ = {};
};

}  // namespace

uint64_t total_steps(const Recipe& recipe, size_t images) {
  return recipe.steps != 0 ? recipe.steps
                           : uint64_t{recipe.epochs} * (images / std::max(recipe.batch, 1U));
}

format::Digest fingerprint(Tape* tape, Tape* teacher, const ImageSet& images,
                           const Recipe& recipe) {
  format::Sha256 sha;
  const OptimizerOptions& o = recipe.optimizer;
  const Schedule& s = recipe.schedule;
  for (const double number : {double(total_steps(recipe, images.count())),
                              double(recipe.batch),
                              double(s.rate),
                              double(s.decay),
                              s.warm_up,
                              double(s.last),
                              double(o.method),
                              double(o.momentum),
                              double(o.nesterov),
                              double(o.beta1),
                              double(o.beta2),
                              double(o.epsilon),
                              double(o.weight_decay),
                              double(o.step_rate),
                              double(o.relative),
                              double(o.largest_norm),
                              double(recipe.augmentation.pad),
                              double(recipe.augmentation.flip),
                              double(recipe.seed),
                              double(recipe.bfloat16),
                              double(recipe.teacher_share),
                              double(recipe.temperature),
                              recipe.frozen_norms})
    hash(&sha, number);
  for (const Matched& each : recipe.hidden) {
    hash(&sha, each.value);
    hash(&sha, each.target);
    hash(&sha, each.share);
  }
  const std::string structure = print(tape->structure());
  hash(&sha, std::span<const char>(structure));
  for (Tape* of : {tape, teacher})
    if (of != nullptr)
      for (const Parameter& parameter : of->parameters()) {
        hash(&sha, parameter.trained);
        hash(&sha, std::span<const float>(of->data(parameter.value)));
      }
  hash(&sha, std::span<const uint8_t>(images.pixels));
  hash(&sha, std::span<const int32_t>(images.labels));
  hash(&sha, images.mean);
  hash(&sha, images.stddev);
  return sha.finish();
}

Result<Fitted> fit(Tape* tape, Tape* teacher, const ImageSet& images, const Recipe& recipe,
                   const std::function<bool(const Progress&)>& progress) {
  if (recipe.batch == 0) return Error{Status::kInvalidArgument, "the batch is 0"};
  return Run(tape, teacher, images, recipe).run(progress);
}

Result<double> accuracy(Tape* tape, uint32_t batch, const ImageSet& images) {
  if (images.labels.empty()) return Error{Status::kInvalidArgument, "the images have no labels"};
  std::vector<float> pixels(batch * images.image_bytes());
  size_t correct = 0;
  for (size_t first = 0; first < images.count(); first += batch) {
    const size_t count = take_in_order(images, first, batch, pixels);
    MPQ_CHECK(tape->forward(pixels, false));
    const std::span<const float> y = tape->data(tape->output());
    const size_t classes = y.size() / batch;
    correct += count_correct(y.first(count * classes), classes,
                             std::span(images.labels).subspan(first, count));
  }
  return static_cast<double>(correct) / static_cast<double>(images.count());
}

}  // namespace mpq::convert::train
