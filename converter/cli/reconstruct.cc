// mpqconvert reconstruct: a network on codes, on samples without labels; of images, block by
// block, then all layers together.
#include "converter/cli/reconstruct.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "converter/cli/command.h"
#include "converter/cli/images.h"
#include "converter/cli/maps.h"
#include "converter/cli/network.h"
#include "converter/cli/output.h"
#include "converter/cli/progress.h"
#include "converter/cli/training.h"
#include "converter/data/write_file.h"
#include "converter/onnx/export.h"
#include "converter/passes/quantize.h"

namespace mpq::convert::cli {
namespace {

using Request = ReconstructRequest;

// The network on codes: given, or quantised without training.
Result<Graph> start_of(const Request& request, const Network& network, const BitsMap& bits,
                       const format::ImagePreprocess& image, bool quiet) {
  if (!request.start.empty()) {
    MPQ_TRY(Network start, load_network(request.start, request.network));
    if (!start.is_quantised)
      return Error{Status::kInvalidArgument, request.start + ": is not quantised"};
    return std::move(start.graph);
  }
  MPQ_TRY(const Calibration calibration,
          load_calibration(request.calib, request.ptq_samples, request.options.seed, image, quiet));
  Graph graph = network.graph;
  PtqOptions options;
  Progress progress("quantising", quiet);
  options.progress = [&](uint32_t done, uint32_t total, const std::string& layer) {
    progress.update(done, total, layer);
    return true;
  };
  MPQ_CHECK(quantize(&graph, bits, {calibration.samples, calibration.count}, options));
  return graph;
}

// Behind the blocks: all layers together.
Result<train::WholeReport> whole(const Request& request, const Graph& real, Graph* graph,
                                 const train::ImageSet& images, bool quiet) {
  train::WholeOptions options = request.whole;
  options.bfloat16 = request.options.bfloat16;
  options.recipe.batch = request.options.batch;
  options.recipe.seed = request.options.seed;
  options.recipe.optimizer = request.options.optimizer;
  if (!request.options.checkpoint.empty())
    options.recipe.checkpoint = request.options.checkpoint + ".whole";
  Progress progress("all layers together", quiet);
  return train::train_whole(real, graph, images, options, [&](const train::Progress& now) {
    progress.update(now.step, now.steps, fmt::format("loss {:.4f}", now.loss));
    return true;
  });
}

std::string as_text(const train::WholeReport& report, uint32_t held_out) {
  std::string text =
      fmt::format("all layers together: {} steps, loss {:.4f}\n", report.steps, report.loss);
  if (held_out == 0) return text;
  return text + fmt::format(
                    "{} images held out: divergence from float {:.4f} -> {:.4f}, the same class "
                    "{:.1f} -> {:.1f} %{}\n",
                    held_out, report.before.divergence, report.after.divergence,
                    100.0 * report.before.agreement, 100.0 * report.after.agreement,
                    report.kept ? "" : "; not kept");
}

nlohmann::ordered_json as_json(const train::Distance& distance) {
  return {{"divergence", distance.divergence}, {"agreement", distance.agreement}};
}

Checked run_reconstruct(Request request, const Global& global) {
  if (request.output.empty() && request.onnx.empty())
    return Error{Status::kInvalidArgument, "name what to write: -o MODEL, --onnx FILE, or both"};
  MPQ_TRY(Network network, load_network(request.input, request.network));
  if (network.takes_texts()) return reconstruct_texts(request, std::move(network), global);
  const Graph& real = network.graph;
  if (network.is_quantised || real.inputs.size() != 1)
    return Error{Status::kUnsupported,
                 request.input + ": only float networks of one input are reconstructed"};
  MPQ_TRY(const format::ImagePreprocess image,
          preset(request.preset, real.values[real.inputs[0]].shape, request.crop_only_small));
  MPQ_TRY(const LabelledImages images,
          load_images(request.calib, request.samples, image, global.quiet));
  MPQ_TRY(precision::SearchResult search,
          resolve_map(real, request.map, request.cost_table, &images.set));
  MPQ_TRY(Graph graph, start_of(request, network, bits_of_map(search.map), image, global.quiet));

  std::vector<size_t> all(images.set.count());
  std::iota(all.begin(), all.end(), size_t{0});
  std::vector<float> pixels(all.size() * images.set.image_bytes());
  train::take_images(images.set, all, {}, 0, pixels);
  Progress progress("reconstructing", global.quiet);
  request.options.progress = [&](size_t block, size_t blocks, const train::BlockReport& report) {
    progress.update(
        block, blocks,
        fmt::format("{}, error {:.5f} -> {:.5f}", report.last, report.before, report.after));
    return true;
  };
  std::vector<train::BlockReport> reports;
  if (request.options.steps != 0) {
    MPQ_TRY(reports, train::reconstruct(real, &graph, pixels, all.size(), request.options));
  }

  train::WholeReport together;
  if (request.whole.recipe.steps != 0) {
    MPQ_TRY(together, whole(request, real, &graph, images.set, global.quiet));
  }

  search.map.source_sha256 = network.source_sha256;
  if (!request.onnx.empty()) {
    MPQ_TRY(const std::vector<std::byte> onnx, export_onnx(graph));
    MPQ_CHECK(data::write_file(request.onnx, onnx));
  }
  if (!request.output.empty())
    MPQ_CHECK(
        write_model(graph, search.map, image, request.preset, images.classes, request.output));
  auto rows = nlohmann::ordered_json::array();
  std::string text = describe(search) + "\n";
  for (const train::BlockReport& r : reports) {
    rows.push_back(
        {{"last", r.last}, {"layers", r.layers}, {"before", r.before}, {"after", r.after}});
    text += fmt::format("{:<40} {:>2} layers  error {:.5f} -> {:.5f}\n", r.last, r.layers, r.before,
                        r.after);
  }
  nlohmann::ordered_json json = {{"schema_version", 1}, {"samples", all.size()}};
  json["blocks"] = std::move(rows);
  if (together.steps != 0) {
    text += as_text(together, request.whole.held_out);
    json["whole"] = {{"steps", together.steps},
                     {"loss", together.loss},
                     {"held_out", request.whole.held_out},
                     {"before", as_json(together.before)},
                     {"after", as_json(together.after)},
                     {"kept", together.kept}};
  }
  if (global.json) return write_text("-", json.dump(2) + "\n");
  if (!global.quiet) fmt::print("{}", text);
  return Ok{};
}

}  // namespace

Run add_reconstruct(CLI::App* app, const Global* global) {
  auto request = std::make_shared<Request>();
  Request& r = *request;
  app->add_option("input", r.input, "a float network: ONNX file, or folder of an encoder of texts")
      ->required();
  app->add_option("-o,--output", r.output, "model file to write");
  app->add_option("--onnx", r.onnx, "ONNX file to write: to fine-tune or search again");
  app->add_option(
         "--calib", r.calib,
         "images: a folder or tar; texts: txt:FILE, stsb:FILE, ...; labels are not looked at")
      ->required();
  app->add_option("--map", r.map, "uniform:4, eagl:budget=0.75, ... or a map file (help: search)")
      ->capture_default_str();
  app->add_option("--cost-table", r.cost_table, "JSON of measured latencies or energies");
  app->add_option("--preset", r.preset, "preprocessing (help: convert)")->capture_default_str();
  const auto number = [&](const char* name, auto* value, const char* what) {
    app->add_option(name, *value, what)->capture_default_str()->type_name("X");
  };
  app->add_option("--calib-samples,--calib-images", r.samples, "how many of them")
      ->capture_default_str();
  app->add_flag("--crop-only-small", r.crop_only_small,
                "images that are hardly larger than the crop: no resize");
  app->add_option("--start", r.start,
                  "the network on codes to start from, which --onnx wrote (default: quantised "
                  "here without training)");
  app->add_option("--ptq-samples,--ptq-images", r.ptq_samples, "for that quantisation")
      ->capture_default_str();
  number("--batch", &r.options.batch, "images a step");
  number("--pixels", &r.options.pixels, "of a block's input, for which a step takes fewer images");
  number("--steps", &r.options.steps,
         "of training for each block; all of them, of texts; 0: quantise only");
  number("--rate", &r.options.schedule.rate,
         "learning rate of weights, in codes (below 4 bits: in those of 4)");
  number("--step-rate", &r.options.optimizer.step_rate,
         "of steps and biases, relative to their size and the learning rate");
  number("--float-share", &r.options.float_share,
         "of a block's inputs, from the float network instead of the quantised one");
  number("--drop-share", &r.options.drop_share, "of activations, not quantised while training");
  app->add_flag("--bfloat16", r.options.bfloat16, "multiply in bfloat16 while training");
  app->add_option(
      "--checkpoint", r.options.checkpoint,
      "file to resume from, written after every block; FILE.whole for all layers together");
  number("--hidden-share", &r.whole.hidden_share,
         "all layers together: share of hidden values in the loss, the output has the rest");
  number("--whole-steps", &r.whole.recipe.steps,
         "of training all layers of a network of images together, behind the blocks");
  number("--whole-rate", &r.whole.recipe.schedule.rate, "its learning rate of weights, in codes");
  number("--temperature", &r.whole.recipe.temperature, "of the float network's probabilities");
  number("--crop", &r.whole.recipe.augmentation.pad,
         "random crops of these images out of so many pixels of padding");
  app->add_flag("!--no-flip", r.whole.recipe.augmentation.flip, "mirror none of these images");
  number("--held-out", &r.whole.held_out,
         "last images: not learned from, they tell how far the network is from float");
  number("--checkpoint-steps", &r.whole.recipe.checkpoint_steps,
         "write FILE.whole every so many steps, besides every ten minutes");
  number("--seed", &r.options.seed, "choice of samples");
  app->add_option("--input-shape", r.network.input_shape,
                  "1,3,224,224, where the model leaves it open");
  return [request, global] { return run_reconstruct(*request, *global); };
}

}  // namespace mpq::convert::cli
