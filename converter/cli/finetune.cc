// mpqconvert finetune: a network with learned quantisers (LSQ), all layers together.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "converter/cli/command.h"
#include "converter/cli/images.h"
#include "converter/cli/maps.h"
#include "converter/cli/network.h"
#include "converter/cli/output.h"
#include "converter/cli/training.h"
#include "converter/data/write_file.h"
#include "converter/onnx/export.h"
#include "converter/train/quantizers.h"

namespace mpq::convert::cli {
namespace {

struct Request {
  std::string input, output, onnx, teacher, first = "mse", map = "uniform:4", cost_table;
  bool channel_steps = false, no_teacher = false;
  NetworkOptions network;
  TrainingRequest training;
};

Checked run_finetune(Request request, const Global& global) {
  TrainingRequest& t = request.training;
  MPQ_CHECK(finish_request(&t));
  if (request.output.empty() && request.onnx.empty())
    return Error{Status::kInvalidArgument, "name what to write: -o MODEL, --onnx FILE, or both"};
  request.network.keep_batch_norm = true;
  MPQ_TRY(const Network network, load_network(request.input, request.network));
  if (network.takes_texts() || network.graph.inputs.size() != 1)
    return Error{Status::kUnsupported, request.input + ": only networks of images are fine-tuned"};
  train::QuantizerOptions options;
  options.channel_steps = request.channel_steps;
  options.first = request.first == "lsq" ? train::FirstStep::kLsq : train::FirstStep::kMse;

  // What is trained starts from the float network, or from one that came quantised.
  const Graph real =
      network.is_quantised ? train::without_quantizers(network.graph) : network.graph;
  const Shape& shape = real.values[real.inputs[0]].shape;
  MPQ_TRY(const format::ImagePreprocess image, preset(t.preset, shape, false));
  MPQ_TRY(const LabelledImages images, load_images(t.dataset, t.limit, image, global.quiet));
  MPQ_TRY(precision::SearchResult search,
          resolve_map(network.graph, request.map, request.cost_table, &images.set));
  const uint32_t batch = t.recipe.batch;
  MPQ_TRY(train::Tape start, observed(real, t.recipe, images.set));
  MPQ_TRY(Graph quantised, train::add_quantizers(real, bits_of_map(search.map), &start, options));
  if (network.is_quantised) train::inherit_steps(network.graph, &quantised);
  MPQ_TRY(train::Tape tape,
          train::Tape::create(std::move(quantised), train::tape_options(t.recipe)));

  // The teacher: another network, or what is trained before it was quantised.
  train::Tape* teacher = request.no_teacher || network.is_quantised ? nullptr : &start;
  std::unique_ptr<train::Tape> other;
  if (!request.teacher.empty()) {
    MPQ_TRY(const Network loaded, load_network(request.teacher));
    MPQ_TRY(train::Tape created, train::Tape::create(loaded.graph, train::tape_options(t.recipe)));
    teacher = (other = std::make_unique<train::Tape>(std::move(created))).get();
  }
  MPQ_TRY(const train::Fitted fitted,
          run_fit("fine-tuning", &tape, teacher, images.set, t.recipe, global.quiet));

  nlohmann::ordered_json json = {{"schema_version", 1},        {"input", request.input},
                                 {"map", search.map.method},   {"images", images.set.count()},
                                 {"steps", fitted.steps},      {"loss", fitted.loss},
                                 {"accuracy", fitted.accuracy}};
  json["second_half_loss"] = std::accumulate(fitted.losses.begin(), fitted.losses.end(), 0.0) /
                             static_cast<double>(std::max<size_t>(fitted.losses.size(), 1));
  std::string text = fmt::format("{}\n{} steps on {} images, loss {:.4f}\n", describe(search),
                                 fitted.steps, images.set.count(), fitted.loss);
  if (!t.test.empty()) {
    MPQ_TRY(const LabelledImages test, load_images(t.test, t.test_limit, image, global.quiet));
    MPQ_TRY(const double after, score(tape, batch, test.set));
    MPQ_TRY(const double before, score(teacher != nullptr ? *teacher : start, batch, test.set));
    json["test_images"] = test.set.count();
    json["test_accuracy"] = after;
    json["reference_accuracy"] = before;
    text += fmt::format("{} test images: {:.2f} %, before {:.2f} %\n", test.set.count(),
                        100.0 * after, 100.0 * before);
  }
  const Graph graph = tape.graph();
  search.map.checkpoint = "trained";
  search.map.source_sha256 = network.source_sha256;
  if (!request.onnx.empty()) {
    MPQ_TRY(const std::vector<std::byte> onnx, export_onnx(graph));
    MPQ_CHECK(data::write_file(request.onnx, onnx));
  }
  if (!request.output.empty())
    MPQ_CHECK(write_model(graph, search.map, image, t.preset, images.classes, request.output));
  if (global.json) return write_text("-", json.dump(2) + "\n");
  if (!global.quiet) fmt::print("{}", text);
  return Ok{};
}

}  // namespace

Run add_finetune(CLI::App* app, const Global* global) {
  auto request = std::make_shared<Request>();
  Request& r = *request;
  r.training.recipe.epochs = 4;
  app->add_option("input", r.input, "ONNX file: float, or one that --onnx wrote")->required();
  app->add_option("-o,--output", r.output, "model file to write");
  app->add_option("--onnx", r.onnx, "ONNX file to write: to fine-tune or search again");
  app->add_option("--map", r.map, "uniform:4, eagl:budget=0.75, ... or a map file (help: search)")
      ->capture_default_str();
  app->add_option("--cost-table", r.cost_table, "JSON of measured latencies or energies");
  app->add_option("--teacher", r.teacher,
                  "network to learn from (default: the float input itself)");
  app->add_flag("--no-teacher", r.no_teacher, "learn from labels only");
  app->add_option("--teacher-share", r.training.recipe.teacher_share,
                  "of the loss; labels have the rest")
      ->capture_default_str();
  app->add_option("--temperature", r.training.recipe.temperature, "of the teacher's probabilities")
      ->capture_default_str();
  app->add_option("--first-step", r.first, "of quantisers: mse (least squared error) or lsq")
      ->capture_default_str()
      ->check(CLI::IsMember({"mse", "lsq"}));
  app->add_flag("--channel-steps", r.channel_steps,
                "weights: a step an output channel, instead of a layer");
  app->add_option("--step-rate", r.training.recipe.optimizer.step_rate,
                  "learning rate of steps, relative to that of weights")
      ->capture_default_str();
  app->add_option("--input-shape", r.network.input_shape,
                  "1,3,224,224, where the model leaves it open");
  add_training_options(app, &r.training);
  return [request, global] { return run_finetune(*request, *global); };
}

}  // namespace mpq::convert::cli
