#include "converter/precision/gradients.h"

#include <algorithm>
#include <limits>
#include <map>

#include "converter/random.h"
#include "converter/train/loss.h"
#include "converter/train/quantizers.h"

namespace mpq::convert::precision {
namespace {

std::map<std::string, size_t> nodes_by_name(const Graph& graph) {
  std::map<std::string, size_t> index;
  for (size_t i = 0; i < graph.nodes.size(); ++i) index[graph.nodes[i].name] = i;
  return index;
}

// A node that changes nothing in front of the layers of every group.
std::vector<ValueId> insert_probes(const Question& question, Graph* graph) {
  constexpr float kAny = std::numeric_limits<float>::infinity();
  const std::map<std::string, size_t> index = nodes_by_name(*graph);
  std::vector<ValueId> outputs(question.selection.groups.size(), kNoValue);
  std::map<size_t, Node> before;  // by node
  for (size_t g = 0; g < outputs.size(); ++g) {
    ValueId read = kNoValue;
    for (const uint32_t layer : question.selection.groups[g].layers) {
      const size_t at = index.at(question.selection.layers[layer].name);
      ValueId& input = graph->nodes[at].inputs[0];
      if (producer(*graph, input) < 0 || (read != kNoValue && input != read)) continue;
      if (read == kNoValue) {
        read = input;
        Value value = graph->values[read];
        value.name += ".group" + std::to_string(g);
        outputs[g] = graph->add_value(std::move(value));
        before[at] = {graph->values[outputs[g]].name, Clip{-kAny, kAny}, {read}, outputs[g], {}};
      }
      input = outputs[g];
    }
  }
  std::vector<Node> nodes;
  for (size_t i = 0; i < graph->nodes.size(); ++i) {
    if (const auto probe = before.find(i); probe != before.end()) nodes.push_back(probe->second);
    nodes.push_back(std::move(graph->nodes[i]));
  }
  graph->nodes = std::move(nodes);
  return outputs;
}

}  // namespace

Checked check_images(const Question& question, size_t least) {
  const std::string& method = question.options.method;
  const auto bad = [&](Status status, const std::string& what) {
    return Error{status, method + ": " + what};
  };
  const Graph& graph = question.graph;
  if (graph.sequence_length != 0 || graph.inputs.size() != 1)
    return bad(Status::kUnsupported, "scores networks of images only");
  const train::ImageSet* const images = question.options.images;
  if (images == nullptr)
    return bad(Status::kInvalidArgument,
               "looks at what the network does with images: give some (search --dataset, convert "
               "--calib)");
  const Shape want{1, train::ImageSet::kChannels, images->height, images->width};
  if (graph.values[graph.inputs[0]].shape != want)
    return bad(Status::kInvalidArgument, "images of " + mpq::to_string(want) +
                                             " for a network of " +
                                             mpq::to_string(graph.values[graph.inputs[0]].shape));
  if (images->count() < least)
    return bad(Status::kInvalidArgument, std::to_string(images->count()) +
                                             " images are fewer than a batch of " +
                                             std::to_string(least));
  return Ok{};
}

Result<LossGradient> LossGradient::of(const Question& question, uint32_t batch, bool probes) {
  MPQ_CHECK(check_images(question, batch));
  LossGradient loss;
  loss.images_ = question.options.images;
  loss.batch_ = batch;
  const size_t count = std::min<size_t>(question.options.samples, loss.images_->count());
  loss.chosen_ = choose(loss.images_->count(), std::max<size_t>(count / batch, 1) * batch,
                        question.options.seed);
  Graph graph = train::without_quantizers(question.graph);
  train::TapeOptions options{.batch = batch};
  if (probes) {
    loss.inputs_ = insert_probes(question, &graph);
    for (const ValueId id : loss.inputs_)
      if (id != kNoValue) options.kept_gradients.push_back(id);
  }
  const std::map<std::string, size_t> index = nodes_by_name(graph);
  for (const Layer& layer : question.selection.layers)
    loss.weights_.push_back(graph.nodes[index.at(layer.name)].inputs[1]);
  MPQ_TRY(train::Tape tape, train::Tape::create(std::move(graph), options));
  loss.tape_ = std::make_unique<train::Tape>(std::move(tape));
  loss.pixels_.resize(batch * loss.images_->image_bytes());
  const auto classes =
      static_cast<size_t>(loss.tape_->structure().values[loss.tape_->output()].shape[1]);
  for (const size_t image : loss.chosen_) {
    const std::vector<int32_t>& labels = loss.images_->labels;
    loss.labels_.push_back(labels.empty() ? -1 : labels[image]);
    if (loss.labels_.back() >= static_cast<int32_t>(classes))
      return Error{Status::kInvalidArgument, "label " + std::to_string(loss.labels_.back()) +
                                                 " of a network of " + std::to_string(classes) +
                                                 " classes"};
  }
  return loss;
}

Checked LossGradient::run(size_t batch) {
  const auto at = std::span(chosen_).subspan(batch * batch_, batch_);
  train::take_images(*images_, at, {}, 0, pixels_);
  MPQ_CHECK(tape_->forward(pixels_, false));
  const std::span<const float> y = tape_->data(tape_->output());
  const size_t classes = y.size() / batch_;
  const auto labels = std::span(labels_).subspan(batch * batch_, batch_);
  for (size_t i = 0; i < batch_; ++i) {
    const auto row = y.subspan(i * classes, classes);
    if (labels[i] < 0)  // kept: later runs differentiate the same loss
      labels[i] = static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
  }
  gradient_.assign(y.size(), 0.0F);
  train::cross_entropy(y, classes, labels, {1.0F, gradient_});
  const train::Tape::Seed seed{tape_->output(), gradient_};
  return tape_->backward({&seed, 1});
}

Result<ObservedInputs> observe_inputs(const Question& question) {
  constexpr size_t kMost = 64;  // a tape keeps every activation
  const train::ImageSet* const images = question.options.images;
  const size_t count =
      images == nullptr ? 1 : std::min({kMost, question.options.samples, images->count()});
  MPQ_CHECK(check_images(question, std::max<size_t>(count, 1)));
  const std::vector<size_t> chosen = choose(images->count(), count, question.options.seed);
  ObservedInputs observed;
  Graph graph = train::without_quantizers(question.graph);
  const std::map<std::string, size_t> index = nodes_by_name(graph);
  for (const Layer& layer : question.selection.layers)
    observed.inputs.push_back(graph.nodes[index.at(layer.name)].inputs[0]);
  MPQ_TRY(train::Tape tape,
          train::Tape::create(std::move(graph), {.batch = static_cast<uint32_t>(count)}));
  observed.tape = std::make_unique<train::Tape>(std::move(tape));
  std::vector<float> pixels(count * images->image_bytes());
  train::take_images(*images, chosen, {}, 0, pixels);
  MPQ_CHECK(observed.tape->forward(pixels, false));
  return observed;
}

}  // namespace mpq::convert::precision
