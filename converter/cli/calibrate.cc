// mpqconvert calibrate: the range of every activation and its steps at 8, 4 and 2 bit, as JSON.
#include "converter/passes/calibrate.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "converter/cli/command.h"
#include "converter/cli/images.h"
#include "converter/cli/network.h"
#include "converter/cli/output.h"
#include "converter/cli/progress.h"
#include "converter/eval.h"
#include "converter/precision/groups.h"

namespace mpq::convert::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Request {
  std::string input, output = "-", calib, preset = "torchvision-v1";
  uint32_t images = 32;
  uint64_t seed = 0;
  bool crop_only_small = false;
  NetworkOptions network;
};

// A sample of a tensor large enough for its steps, small enough to keep for every tensor.
constexpr size_t kKeptPerImage = 4096;

struct Seen {
  float min = 0.0F, max = 0.0F;
  std::vector<float> kept;
  void add(std::span<const float> values) {
    if (values.empty()) return;
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    if (kept.empty()) min = max = values.front();
    min = std::min(min, *low);
    max = std::max(max, *high);
    const size_t stride =
        values.size() / std::min(values.size(), kKeptPerImage) | 1;  // odd: no column is favoured
    for (size_t i = 0; i < values.size(); i += stride) kept.push_back(values[i]);
  }
};

Json row_of(const std::string& tensor, const Seen& seen) {
  Json row = {{"tensor", tensor}, {"min", seen.min}, {"max", seen.max}};
  for (const int bits : {8, 4, 2}) {
    const QuantSpec grid = choose_grid(seen.kept, seen.kept, bits, {});
    row["step_" + std::to_string(bits)] = grid.scale.front();
    row["zero_point_" + std::to_string(bits)] = grid.zero_point;
  }
  return row;
}

Checked run_calibrate(const Request& request, const Global& global) {
  MPQ_TRY(const Network network, load_network(request.input, request.network));
  if (network.takes_texts())
    return Error{Status::kUnsupported,
                 request.input +
                     ": takes texts; calibrate is for networks of images, convert "
                     "calibrates on texts itself"};
  const Graph& graph = network.graph;
  if (graph.inputs.size() != 1)
    return Error{Status::kUnsupported, request.input + ": has several inputs"};
  const Shape& shape = graph.values[graph.inputs[0]].shape;
  MPQ_TRY(const format::ImagePreprocess image,
          preset(request.preset, shape, request.crop_only_small));
  MPQ_TRY(const Calibration calibration,
          load_calibration(request.calib, request.images, request.seed, image, global.quiet));
  MPQ_TRY(Evaluator evaluator, Evaluator::create(graph, 1));
  std::vector<Seen> seen(graph.values.size());
  const size_t sample = calibration.samples.size() / calibration.count;
  {
    Progress progress("evaluating", global.quiet);
    for (uint32_t i = 0; i < calibration.count; ++i) {
      const std::span<const float> input(calibration.samples.data() + i * sample, sample);
      seen[graph.inputs[0]].add(input);
      MPQ_TRY(const auto unused,
              evaluator.run(input, [&](const Node& node, std::span<const float> output) {
                seen[node.output].add(output);
                return true;
              }));
      (void)unused;
      progress.update(i + 1, calibration.count, "");
    }
  }
  Json json = {{"schema_version", 1},
               {"input", request.input},
               {"sha256", network.source_sha256},
               {"images", calibration.count},
               {"preset", request.preset}};
  Json rows = Json::array();
  for (size_t value = 0; value < seen.size(); ++value)
    if (!seen[value].kept.empty()) rows.push_back(row_of(graph.values[value].name, seen[value]));
  json["tensors"] = std::move(rows);
  return write_text(request.output, json.dump(2) + "\n");
}

}  // namespace

Run add_calibrate(CLI::App* app, const Global* global) {
  auto request = std::make_shared<Request>();
  app->add_option("input", request->input, "ONNX file")->required();
  app->add_option("--calib", request->calib, "images to calibrate on: a folder or tar")->required();
  app->add_option("-o,--output", request->output, "JSON file to write (-: stdout)")
      ->capture_default_str();
  app->add_option("--calib-images", request->images, "how many of them")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000))
      ->type_name("N");
  app->add_option("--preset", request->preset, "preprocessing (help: convert)")
      ->capture_default_str();
  app->add_flag("--crop-only-small", request->crop_only_small,
                "images between crop and resize size are only cropped");
  app->add_option("--seed", request->seed, "choice of images")->capture_default_str();
  app->add_option("--input-shape", request->network.input_shape,
                  "1,3,224,224, where the model leaves it open");
  return [request, global] { return run_calibrate(*request, *global); };
}

}  // namespace mpq::convert::cli
