// mpqconvert map show | edit | diff | validate.
#include "converter/precision/map.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "converter/cli/command.h"
#include "converter/cli/maps.h"
#include "converter/cli/network.h"
#include "converter/cli/output.h"

namespace mpq::convert::cli {
namespace {

struct Request {
  std::string map, other, output, against;
  std::vector<std::string> changes;
  NetworkOptions network;
};

Checked show(const Request& request, const Global& global) {
  MPQ_TRY(const format::PrecisionMap map, read_map(request.map));
  if (global.json) return write_text("-", precision::print_map(map));
  fmt::print("method {}, cost {}, budget {:g}, checkpoint {}, solver {}\n", map.method,
             map.cost_model, map.budget, map.checkpoint, map.solver);
  fmt::print("{:<40} {:>5} {:>8} {:>10}  {}\n", "layer", "group", "gain", "cost", "bits");
  for (const format::MapLayer& layer : map.layers) {
    const bool known = layer.group < map.groups.size();
    const format::MapGroup group = known ? map.groups[layer.group] : format::MapGroup{};
    fmt::print("{:<40} {:>5} {:>8.3f} {:>10.4g}  {}{}\n", layer.node, layer.group, group.gain,
               group.cost_high,
               precision::to_string(precision::Bits{layer.weight_bits, layer.activation_bits}),
               group.fixed ? " (fixed)" : "");
  }
  return Ok{};
}

// "NAME=4", "re:layer4\..*=4/8"
Checked edit(const Request& request, const Global& global) {
  MPQ_TRY(format::PrecisionMap map, read_map(request.map));
  size_t changed = 0;
  for (const std::string& change : request.changes) {
    const size_t equals = change.rfind('=');
    if (equals == std::string::npos)
      return Error{Status::kInvalidArgument, "'" + change + "' is not LAYER=BITS or re:REGEX=BITS"};
    MPQ_TRY(const precision::Bits bits, precision::parse_bits(change.substr(equals + 1)));
    MPQ_TRY(const size_t layers, precision::set_bits(&map, change.substr(0, equals), bits));
    changed += layers;
  }
  MPQ_CHECK(precision::validate_map(map));
  if (!global.quiet) fmt::print(stderr, "{} layer{} set\n", changed, changed == 1 ? "" : "s");
  return write_text(request.output.empty() ? request.map : request.output,
                    precision::print_map(map));
}

Checked diff(const Request& request, const Global&) {
  MPQ_TRY(const format::PrecisionMap left, read_map(request.map));
  MPQ_TRY(const format::PrecisionMap right, read_map(request.other));
  for (const precision::MapDifference& row : precision::diff_maps(left, right))
    fmt::print("{}: {} -> {}\n", row.layer, row.left, row.right);
  return Ok{};
}

Checked validate(const Request& request, const Global& global) {
  MPQ_TRY(const format::PrecisionMap map, read_map(request.map));
  if (!request.against.empty()) {
    MPQ_TRY(const Network network, load_network(request.against, request.network));
    MPQ_TRY(const precision::Selection selection, precision::Selection::of(network.graph));
    MPQ_CHECK(precision::validate_map(map, selection));
  }
  if (!global.quiet)
    fmt::print("{}: {} layers{}\n", request.map, map.layers.size(),
               request.against.empty() ? "" : ", fits " + request.against);
  return Ok{};
}

struct Action {
  const char* name;
  const char* what;
  Checked (*run)(const Request&, const Global&);
};
constexpr Action kActions[] = {
    {"show", "a map as a table", show},
    {"edit", "set layers by name or regular expression", edit},
    {"diff", "the layers whose precision differs", diff},
    {"validate", "is the map well formed, and does it fit a network", validate},
};

}  // namespace

Run add_map(CLI::App* app, const Global* global) {
  auto request = std::make_shared<Request>();
  app->require_subcommand(1);
  auto chosen = std::make_shared<const Action*>(nullptr);
  for (const Action& action : kActions) {
    CLI::App* const sub = app->add_subcommand(action.name, action.what);
    sub->fallthrough();  // -q and --json of the verb
    sub->add_option("map", request->map, "map file")->required();
    if (action.run == edit) {
      sub->add_option("--set", request->changes,
                      "LAYER=BITS or re:REGEX=BITS; BITS is 4, or 4/8 (weights/activations)")
          ->required();
      sub->add_option("-o,--output", request->output, "map file to write (default: the same file)");
    }
    if (action.run == diff) sub->add_option("other", request->other, "map file")->required();
    if (action.run == validate) {
      sub->add_option("--against", request->against, "ONNX file or folder");
      sub->add_option("--input-shape", request->network.input_shape,
                      "1,3,224,224, where the model leaves it open");
    }
    sub->callback([chosen, row = &action] { *chosen = row; });
  }
  return [request, chosen, global] { return (*chosen)->run(*request, *global); };
}

}  // namespace mpq::convert::cli
