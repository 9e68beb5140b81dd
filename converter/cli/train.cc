// mpqconvert train: a float network for small images, from nothing or from given weights; or a
// classifier on an encoder of texts.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "converter/cli/command.h"
#include "converter/cli/images.h"
#include "converter/cli/network.h"
#include "converter/cli/output.h"
#include "converter/cli/training.h"
#include "converter/data/read_file.h"
#include "converter/data/write_file.h"
#include "converter/onnx/export.h"
#include "converter/torch/checkpoint.h"
#include "converter/train/resnet.h"

namespace mpq::convert::cli {
namespace {

struct Request {
  std::string net, init, output;
  uint32_t width = 16, side = 32, max_tokens = 0;
  TrainingRequest training;
};

// First weights: of a network that this verb wrote, node by node, or of PyTorch's, by name.
Checked start_from(const std::string& path, Graph* graph) {
  if (!path.ends_with(".onnx")) {
    MPQ_TRY(const auto bytes, data::read_file(path));
    MPQ_TRY(const Checkpoint checkpoint, read_checkpoint(bytes));
    return train::load_weights(checkpoint, graph);
  }
  NetworkOptions options;
  options.keep_batch_norm = true;
  MPQ_TRY(const Network network, load_network(path, options));
  if (network.graph.nodes.size() != graph->nodes.size())
    return Error{Status::kInvalidArgument,
                 path + ": has " + std::to_string(network.graph.nodes.size()) +
                     " operators, the network " + std::to_string(graph->nodes.size())};
  for (const Node& node : graph->nodes) {
    const auto& from = network.graph.nodes;
    const auto same = std::find_if(from.begin(), from.end(),
                                   [&](const Node& other) { return other.name == node.name; });
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      Value& value = graph->values[node.inputs[i]];
      if (!value.is_constant) continue;
      const bool there = same != from.end() && i < same->inputs.size() &&
                         network.graph.values[same->inputs[i]].is_constant &&
                         network.graph.values[same->inputs[i]].shape == value.shape;
      if (!there)
        return Error{Status::kInvalidArgument,
                     path + ": has no '" + value.name + "' of shape " + to_string(value.shape)};
      value.data = network.graph.values[same->inputs[i]].data;
    }
  }
  return Ok{};
}

// What is not given, for a trained encoder: a few passes at a rate that does not undo it.
void set_text_recipe(const CLI::App& app, TrainingRequest* request) {
  const auto set = [&](const char* option, auto* value, const auto& own) {
    if (app.count(option) == 0) *value = own;
  };
  train::Recipe& recipe = request->recipe;
  set("--optimizer", &request->optimizer, "adamw");
  set("--decay", &request->decay, "linear");
  set("--epochs", &recipe.epochs, 3);
  set("--batch", &recipe.batch, 32);
  set("--rate", &recipe.schedule.rate, 1e-4F);
  set("--warm-up", &recipe.schedule.warm_up, 0.1);
  set("--weight-decay", &recipe.optimizer.weight_decay, 0.01F);
  set("--largest-norm", &recipe.optimizer.largest_norm, 1.0F);
}

Checked run_train(Request request, const CLI::App& app, const Global& global) {
  std::error_code ignored;
  const bool of_texts = std::filesystem::is_directory(request.net, ignored);
  if (of_texts) set_text_recipe(app, &request.training);
  MPQ_CHECK(finish_request(&request.training));
  const TrainingRequest& t = request.training;
  if (of_texts) return train_texts(request.net, request.max_tokens, t, request.output, global);
  MPQ_TRY(train::ResnetSpec spec, train::resnet_by_name(request.net));
  spec.width = request.width;
  spec.side = request.side;
  const Shape input{1, 3, spec.side, spec.side};
  MPQ_TRY(const format::ImagePreprocess image, preset(t.preset, input, false));
  MPQ_TRY(const LabelledImages images, load_images(t.dataset, t.limit, image, global.quiet));
  const std::vector<int32_t>& labels = images.set.labels;
  if (labels.empty()) return Error{Status::kInvalidArgument, t.dataset + ": has no classes"};
  spec.classes = static_cast<uint32_t>(*std::max_element(labels.begin(), labels.end()) + 1);
  Graph graph = train::make_resnet(spec, t.recipe.seed);
  if (!request.init.empty()) MPQ_CHECK(start_from(request.init, &graph));
  MPQ_TRY(train::Tape tape, train::Tape::create(std::move(graph), train::tape_options(t.recipe)));
  MPQ_TRY(const train::Fitted fitted,
          run_fit("training", &tape, nullptr, images.set, t.recipe, global.quiet));
  MPQ_TRY(const std::vector<std::byte> onnx, export_onnx(tape.graph()));
  MPQ_CHECK(data::write_file(request.output, onnx));

  nlohmann::ordered_json json = {{"schema_version", 1},          {"network", request.net},
                                 {"images", images.set.count()}, {"steps", fitted.steps},
                                 {"loss", fitted.loss},          {"accuracy", fitted.accuracy}};
  std::string line = fmt::format("{}: {} on {} images, {} steps, loss {:.4f}, {:.2f} % right",
                                 request.output, request.net, images.set.count(), fitted.steps,
                                 fitted.loss, 100.0 * fitted.accuracy);
  if (!t.test.empty()) {
    MPQ_TRY(const LabelledImages test, load_images(t.test, t.test_limit, image, global.quiet));
    MPQ_TRY(const double right, score(tape, t.recipe.batch, test.set));
    json["test_images"] = test.set.count();
    json["test_accuracy"] = right;
    line += fmt::format("; {:.2f} % of {} test images", 100.0 * right, test.set.count());
  }
  if (global.json) return write_text("-", json.dump(2) + "\n");
  if (!global.quiet) fmt::print("{}\n", line);
  return Ok{};
}

}  // namespace

Run add_train(CLI::App* app, const Global* global) {
  auto request = std::make_shared<Request>();
  Request& r = *request;
  r.training.recipe.schedule.rate = 0.1F;
  app->add_option(
         "network", r.net,
         "resnet8, resnet14, resnet20, ... (6 n + 2 layers); or the folder of an encoder of "
         "texts, which becomes a classifier")
      ->required();
  app->add_option("-o,--output", r.output, "ONNX file to write; of texts: folder")->required();
  app->add_option("--width", r.width, "channels of the first stage")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app->add_option("--side", r.side, "pixels of the images' sides")
      ->capture_default_str()
      ->check(CLI::Range(4, 1024));
  app->add_option(
      "--init", r.init,
      "first weights: what this verb wrote, or a checkpoint of PyTorch's, ResNet names");
  app->add_option("--max-tokens", r.max_tokens, "of texts: longest one in tokens");
  add_training_options(app, &r.training);
  app->footer(
      "Of texts, what is not given is: --optimizer adamw --rate 1e-4 --decay linear --warm-up 0.1 "
      "--epochs 3 --batch 32 --weight-decay 0.01 --largest-norm 1.");
  return [request, app, global] { return run_train(*request, *app, *global); };
}

}  // namespace mpq::convert::cli
