// mpqconvert search: a precision map only, and the whole frontier.
#include "converter/precision/search.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "converter/cli/command.h"
#include "converter/cli/images.h"
#include "converter/cli/maps.h"
#include "converter/cli/network.h"
#include "converter/cli/output.h"
#include "converter/cli/training.h"
#include "converter/precision/map.h"
#include "converter/precision/spec.h"

namespace mpq::convert::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Request {
  std::string input, output = "-", pareto, cost_table, map, method = "eagl";
  std::string dataset, preset = "small";
  std::vector<std::string> profiles;
  NetworkOptions network;
  std::vector<std::pair<std::string, std::string>>
      settings;  // of precision/spec.h, in the given order
  bool table = false;
};

// Layer by layer, for people.
std::string layer_table(const precision::SearchResult& result) {
  std::string text = fmt::format("{:<40} {:>5} {:>7} {:>9} {:>9}  {}\n", "layer", "group",
                                 "entropy", "MMAC", "weights", "bits");
  for (size_t i = 0; i < result.selection.layers.size(); ++i) {
    const precision::Layer& layer = result.selection.layers[i];
    const format::MapLayer& row = result.map.layers[i];
    const std::string entropy =
        i < result.layer_entropy.size() ? fmt::format("{:.3f}", result.layer_entropy[i]) : "-";
    text += fmt::format("{:<40} {:>5} {:>7} {:>9.2f} {:>9}  {}{}\n", layer.name, layer.group,
                        entropy, static_cast<double>(layer.macs) / 1e6, layer.weights,
                        precision::to_string(precision::Bits{row.weight_bits, row.activation_bits}),
                        result.map.groups[row.group].fixed ? " (fixed)" : "");
  }
  return text;
}

Checked run_search(const Request& request, const Global& global) {
  MPQ_TRY(const Network network, load_network(request.input, request.network));
  precision::SearchOptions options;
  options.method = request.method;
  if (!request.map.empty()) {
    MPQ_TRY(options, precision::parse_search(request.map));
  }
  for (const auto& [key, value] : request.settings)
    MPQ_CHECK(precision::set_search_option(&options, key, value));
  MPQ_TRY(options.table, read_costs(request.cost_table));
  for (const std::string& profile : request.profiles) {
    MPQ_TRY(const std::string text, read_text(profile));
    const auto added = precision::add_profile(text, &options.table);
    if (!added.ok()) return Error{added.error().code, profile + ": " + added.error().message};
  }
  LabelledImages images;
  if (!request.dataset.empty()) {
    const Graph& graph = network.graph;
    if (graph.inputs.size() != 1)
      return Error{Status::kUnsupported, request.input + ": takes no images"};
    MPQ_TRY(const format::ImagePreprocess image,
            preset(request.preset, graph.values[graph.inputs[0]].shape, false));
    MPQ_TRY(images, load_images(request.dataset, static_cast<uint32_t>(options.samples), image,
                                global.quiet));
    options.images = &images.set;
  }
  const Clock::time_point start = Clock::now();
  MPQ_TRY(precision::SearchResult result, precision::search(network.graph, options));
  const std::chrono::duration<double> seconds = Clock::now() - start;
  result.map.source_sha256 = network.source_sha256;
  if (!request.pareto.empty())
    MPQ_CHECK(write_text(request.pareto, frontier_json(result).dump(2) + "\n"));
  if (!global.quiet) {
    for (const std::string& note : network.notes) fmt::print(stderr, "{}\n", note);
    fmt::print(stderr, "{}\nscored and solved in {:.3g} s\n", describe(result), seconds.count());
    if (result.map.checkpoint == "ptq" && result.map.method == "eagl")
      fmt::print(stderr,
                 "note: entropies are of weights quantised here; the method was stated for a "
                 "trained 4-bit network\n");
    if (request.table) fmt::print(stderr, "{}", layer_table(result));
  }
  return write_text(request.output, precision::print_map(result.map));
}

}  // namespace

Run add_search(CLI::App* app, const Global* global) {
  auto request = std::make_shared<Request>();
  app->add_option("input", request->input, "ONNX file, or folder of a BERT or MPNet encoder")
      ->required();
  app->add_option("-o,--output", request->output, "map file to write (-: stdout)")
      ->capture_default_str();
  std::string methods;
  for (const std::string& name : precision::search_methods())
    methods += (methods.empty() ? "" : ", ") + name;
  app->add_option("--method", request->method, methods)->capture_default_str();
  app->add_option("--map", request->map, "the same in a word: METHOD:budget=0.75,bits=4/2");
  app->add_option("--dataset", request->dataset,
                  "images that the method looks at: a folder, a tar, or MNIST's files");
  app->add_option("--preset", request->preset, "their preprocessing (help: convert)")
      ->capture_default_str();
  for (const auto& [key, takes] : precision::search_key_help())
    app->add_option_function<std::vector<std::string>>(
           "--" + key,
           [request, key = key](const std::vector<std::string>& values) {
             for (const std::string& value : values) request->settings.emplace_back(key, value);
           },
           takes)
        ->type_name("");
  app->add_option("--cost-table", request->cost_table,
                  "JSON of latencies or energies, for --cost latency or energy");
  app->add_option("--profile", request->profiles,
                  "JSON of mpqrun MODEL --profile --json, one a precision, for --cost latency");
  app->add_option("--pareto", request->pareto, "JSON: the best selection for every budget");
  app->add_option("--input-shape", request->network.input_shape,
                  "1,3,224,224, where the model leaves it open");
  app->add_flag("--table", request->table, "the layers with entropy, cost and bits, on stderr");
  return [request, global] { return run_search(*request, *global); };
}

}  // namespace mpq::convert::cli
