// mpqconvert report: precision maps of a network as one page for a browser.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "converter/cli/command.h"
#include "converter/cli/images.h"
#include "converter/cli/maps.h"
#include "converter/cli/network.h"
#include "converter/cli/output.h"
#include "converter/cli/page.h"
#include "converter/cli/training.h"
#include "converter/precision/spec.h"

namespace mpq::convert::cli {
namespace {

struct Request {
  std::string input, output, dataset, cost_table, preset = "small";
  std::vector<std::string> maps = {"eagl"};
  NetworkOptions network;
};

// A map of a file has its layers in any order, and perhaps no groups.
void align(precision::SearchResult* found) {
  format::PrecisionMap& map = found->map;
  std::vector<format::MapLayer> layers;
  for (const precision::Layer& layer : found->selection.layers) {
    layers.push_back(*std::find_if(map.layers.begin(), map.layers.end(),
                                   [&](const auto& row) { return row.node == layer.name; }));
    layers.back().group = layer.group;
  }
  map.layers = std::move(layers);
  map.groups.resize(found->selection.groups.size());
}

Checked run_report(const Request& request, const Global& global) {
  MPQ_TRY(const Network network, load_network(request.input, request.network));
  LabelledImages images;
  if (!request.dataset.empty()) {
    constexpr uint32_t kImages = 256;
    const Graph& graph = network.graph;
    MPQ_TRY(const format::ImagePreprocess image,
            preset(request.preset, graph.values[graph.inputs[0]].shape, false));
    MPQ_TRY(images, load_images(request.dataset, kImages, image, global.quiet));
  }
  std::vector<PageMap> maps;
  for (const std::string& words : request.maps) {
    MPQ_TRY(precision::SearchResult found,
            resolve_map(network.graph, words, request.cost_table,
                        images.set.count() == 0 ? nullptr : &images.set));
    align(&found);
    found.map.source_sha256 = network.source_sha256;
    if (!global.quiet) fmt::print(stderr, "{}: {}\n", words, describe(found));
    maps.push_back({words, std::move(found)});
  }
  const size_t slash = request.input.find_last_of('/', request.input.size() - 2);
  return write_text(request.output,
                    print_page(request.input.substr(slash + 1), network.graph, maps));
}

}  // namespace

Run add_report(CLI::App* app, const Global* global) {
  auto request = std::make_shared<Request>();
  app->add_option("input", request->input, "ONNX file, or folder of a BERT or MPNet encoder")
      ->required();
  app->add_option("-o,--output", request->output, "HTML file to write (-: stdout)")->required();
  app->add_option("--map", request->maps,
                  "eagl:budget=0.75, ... or a map file (help: search); several are shown side by "
                  "side, the first in full")
      ->capture_default_str();
  app->add_option("--dataset", request->dataset,
                  "images for methods that look at them: a folder, a tar, or MNIST's files");
  app->add_option("--preset", request->preset, "their preprocessing (help: convert)")
      ->capture_default_str();
  app->add_option("--cost-table", request->cost_table, "JSON of measured latencies or energies");
  app->add_option("--input-shape", request->network.input_shape,
                  "1,3,224,224, where the model leaves it open");
  return [request, global] { return run_report(*request, *global); };
}

}  // namespace mpq::convert::cli
