// mpqconvert inspect: what would be imported, without converting.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "converter/cli/command.h"
#include "converter/cli/input.h"
#include "converter/cli/network.h"
#include "converter/cli/output.h"
#include "converter/nvidia/import.h"
#include "converter/precision/groups.h"

namespace mpq::convert::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Request {
  std::string input;
  NetworkOptions network;
  bool graph = false;
};

Checked print_summary(const Json& json, const Global& global) {
  if (global.json) return write_text("-", json.dump(2) + "\n");
  for (const auto& [key, value] : json.items()) {
    if (key == "layers" || key == "schema_version") continue;
    if (key == "notes") {
      for (const Json& note : value) fmt::print("note: {}\n", note.get<std::string>());
      continue;
    }
    fmt::print("{:<20} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return Ok{};
}

Result<Json> inspect_network(const Request& request, InputKind kind) {
  MPQ_TRY(const Network network, load_network(request.input, request.network));
  const Graph& graph = network.graph;
  if (request.graph) fmt::print("{}", print(graph));
  MPQ_TRY(const precision::Selection selection, precision::Selection::of(graph));
  std::map<std::string, size_t> operators;
  for (const Node& node : graph.nodes) ++operators[op_name(node.op)];
  uint64_t macs = 0, weights = 0;
  Json layers = Json::array();
  for (const precision::Layer& layer : selection.layers) {
    macs += layer.macs;
    weights += layer.weights;
    layers.push_back({{"name", layer.name},
                      {"group", layer.group},
                      {"macs", layer.macs},
                      {"weights", layer.weights},
                      {"fixed", selection.groups[layer.group].fixed}});
  }
  Json json = {{"schema_version", 1},
               {"input", request.input},
               {"kind", kind == InputKind::kEncoder ? "encoder" : "onnx"},
               {"name", graph.name}};
  for (const ValueId id : graph.inputs) json["input_shape"] = to_string(graph.values[id].shape);
  for (const ValueId id : graph.outputs) json["output_shape"] = to_string(graph.values[id].shape);
  json["quantised"] = network.is_quantised;
  json["operators"] = operators;
  json["layers_with_weights"] = selection.layers.size();
  json["selectable_layers"] = selection.selectable_layers();
  json["selectable_groups"] = selection.selectable_groups();
  json["macs"] = macs;
  json["weights"] = weights;
  json["sha256"] = network.source_sha256;
  json["notes"] = network.notes;
  json["layers"] = std::move(layers);
  return json;
}

Result<Json> inspect_nvidia(const Request& request) {
  MPQ_TRY(const nvidia::Imported imported, nvidia::import_release(request.input));
  uint64_t channels = 0, differing = 0;
  for (const nvidia::LayerProof& proof : imported.proofs) {
    channels += proof.channels;
    differing += proof.differing_channels;
  }
  const format::Model& model = imported.lowered.model;
  return Json{{"schema_version", 1},
              {"input", request.input},
              {"kind", "nvidia"},
              {"name", model.name},
              {"nodes", model.nodes.size()},
              {"quantised", true},
              {"layers_with_weights", model.map.layers.size()},
              {"channels", channels},
              {"channels_not_exact", differing}};
}

Checked run_inspect(const Request& request, const Global& global) {
  MPQ_TRY(const InputKind kind, recognise(request.input));
  MPQ_TRY(const Json json,
          kind == InputKind::kNvidia ? inspect_nvidia(request) : inspect_network(request, kind));
  return print_summary(json, global);
}

}  // namespace

Run add_inspect(CLI::App* app, const Global* global) {
  auto request = std::make_shared<Request>();
  app->add_option("input", request->input, kInputHelp)->required();
  app->add_option("--input-shape", request->network.input_shape,
                  "1,3,224,224, where the model leaves it open");
  app->add_option("--tokenizer", request->network.tokenizer, kTokenizerHelp);
  app->add_flag("--graph", request->graph, "print the graph, a line a node");
  return [request, global] { return run_inspect(*request, *global); };
}

}  // namespace mpq::convert::cli
