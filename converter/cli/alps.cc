// mpqconvert alps: what every group of layers is worth, measured by fine-tuning.
#include "converter/precision/alps.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "converter/cli/command.h"
#include "converter/cli/images.h"
#include "converter/cli/network.h"
#include "converter/cli/output.h"
#include "converter/cli/progress.h"
#include "converter/cli/training.h"
#include "converter/train/quantizers.h"

namespace mpq::convert::cli {
namespace {

using precision::StepReset;

struct Request {
  std::string input, output, teacher;
  NetworkOptions network;
  TrainingRequest training;
  precision::AlpsOptions options;
};

const std::map<std::string, StepReset> kResets = {{"mse", StepReset::kMse},
                                                  {"lsq", StepReset::kLsq},
                                                  {"range", StepReset::kRange},
                                                  {"clip", StepReset::kClip}};

Checked run_alps(Request request, const Global& global) {
  TrainingRequest& t = request.training;
  MPQ_CHECK(finish_request(&t));
  request.network.keep_batch_norm = true;
  MPQ_TRY(const Network network, load_network(request.input, request.network));
  if (network.takes_texts() || !network.is_quantised || network.graph.inputs.size() != 1)
    return Error{Status::kUnsupported,
                 request.input +
                     ": ALPS starts from a trained network of images with codes, as "
                     "finetune --onnx writes it"};
  const Graph real = train::without_quantizers(network.graph);
  MPQ_TRY(const format::ImagePreprocess image,
          preset(t.preset, real.values[real.inputs[0]].shape, false));
  MPQ_TRY(const LabelledImages images, load_images(t.dataset, t.limit, image, global.quiet));
  MPQ_TRY(train::Tape start, observed(real, t.recipe, images.set));
  std::optional<Network> teacher;
  if (!request.teacher.empty()) {
    MPQ_TRY(teacher, load_network(request.teacher));
  }
  precision::AlpsOptions& options = request.options;
  options.recipe = t.recipe;
  options.folder = t.recipe.checkpoint;
  Progress progress("ALPS", global.quiet);
  options.progress = [&](size_t done, size_t total, const std::string& layer) {
    progress.update(done, total, layer);
    return true;
  };
  MPQ_TRY(const precision::AlpsResult result,
          precision::alps(network.graph, &start, teacher ? &teacher->graph : nullptr, images.set,
                          options));
  MPQ_TRY(const precision::Selection selection, precision::Selection::of(network.graph));
  MPQ_CHECK(write_text(request.output, precision::print_gains(result, selection, options)));

  std::string text =
      fmt::format("{:<40} {:>9} {:>9} {:>9} {:>9}\n", "group", "gain", "+-", "right %", "seconds");
  auto rows = nlohmann::ordered_json::array();
  const auto add = [&](const std::string& name, const precision::AlpsRow& row) {
    text += fmt::format("{:<40} {:>9.4f} {:>9.4f} {:>9.2f} {:>9.1f}\n", name, row.gain,
                        row.standard_error, 100.0 * row.accuracy, row.seconds);
    rows.push_back({{"group", name}, {"gain", row.gain}, {"seconds", row.seconds}});
  };
  add("(reference)", result.reference);
  for (const precision::AlpsRow& row : result.groups)
    add(selection.layers[selection.groups[row.group].layers[0]].name, row);
  if (global.json) {
    nlohmann::ordered_json json = {{"schema_version", 1}, {"images", images.set.count()}};
    json["runs"] = std::move(rows);
    return write_text("-", json.dump(2) + "\n");
  }
  if (!global.quiet && request.output != "-") fmt::print("{}", text);
  return Ok{};
}

}  // namespace

Run add_alps(CLI::App* app, const Global* global) {
  auto request = std::make_shared<Request>();
  Request& r = *request;
  r.training.recipe.epochs = 1;
  r.training.recipe.schedule.rate = 0.001F;  // a tenth of where fine-tuning starts
  r.training.decay = "constant";
  app->add_option("input", r.input, "ONNX file of a trained network with codes: finetune --onnx")
      ->required();
  app->add_option("-o,--output", r.output, "JSON of gains to write, for --map alps:file=...")
      ->required();
  app->add_option("--low", r.options.low_bits, "bits that a group is dropped to")
      ->capture_default_str()
      ->check(CLI::IsMember({2, 4}));
  app->add_option("--reset", r.options.reset,
                  "first steps of what is dropped: mse, lsq, range (4 s) or clip (7 s, 5 s)")
      ->transform(CLI::CheckedTransformer(kResets))
      ->type_name("RULE")
      ->default_str("mse");
  app->add_flag("--by-accuracy", r.options.by_accuracy,
                "gains in training accuracy, instead of loss");
  app->add_option("--teacher", r.teacher, "float network that has a share of the loss");
  app->add_option("--teacher-share", r.training.recipe.teacher_share, "of the loss")
      ->capture_default_str();
  app->add_option("--jobs", r.options.jobs,
                  "groups at a time; give each its share of the cores by OMP_NUM_THREADS")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app->add_option("--input-shape", r.network.input_shape,
                  "1,3,224,224, where the model leaves it open");
  add_training_options(app, &r.training);
  app->get_option("--checkpoint")
      ->description(
          "folder to resume from: finished groups stay in it, so a run that was killed "
          "goes on to the same bytes");
  return [request, global] { return run_alps(*request, *global); };
}

}  // namespace mpq::convert::cli
