#include "converter/cli/maps.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "converter/cli/output.h"
#include "converter/precision/map.h"
#include "converter/precision/names.h"
#include "converter/precision/selector.h"
#include "converter/precision/spec.h"

namespace mpq::convert::cli {
namespace {

Error at(const std::string& path, const Error& error) {
  return Error{error.code, path + ": " + error.message};
}

// A word that is neither a method nor a file: a misspelt method, more likely than a missing file.
Error unknown_map(const std::string& words, const Error& error) {
  const std::string name = words.substr(0, words.find(':'));
  std::vector<std::string> known = precision::search_methods();
  known.emplace_back("uniform");
  const bool is_path = name.find_first_of("/.") != std::string::npos;
  if (is_path && precision::suggestion(name, known).empty()) return error;
  return Error{Status::kInvalidArgument, "--map " + words + ": no such file, and " +
                                             precision::find_selector(name).error().message};
}

}  // namespace

Result<format::PrecisionMap> read_map(const std::string& path) {
  MPQ_TRY(const std::string text, read_text(path));
  auto map = precision::parse_map(text);
  if (!map.ok()) return at(path, map.error());
  return map;
}

BitsMap bits_of_map(const format::PrecisionMap& map) {
  BitsMap bits;
  for (const format::MapLayer& layer : map.layers)
    bits[layer.node] = {layer.weight_bits, layer.activation_bits};
  return bits;
}

Result<precision::CostTable> read_costs(const std::string& path) {
  if (path.empty()) return precision::CostTable{};
  MPQ_TRY(const std::string text, read_text(path));
  auto table = precision::parse_cost_table(text);
  if (!table.ok()) return at(path, table.error());
  return table;
}

Result<precision::SearchResult> resolve_map(const Graph& graph, const std::string& words,
                                            const std::string& cost_table,
                                            const train::ImageSet* images) {
  if (precision::is_map_spec(words)) {
    MPQ_TRY(const precision::CostTable table, read_costs(cost_table));
    return precision::make_map(graph, words, table, images);
  }
  auto map = read_map(words);
  if (!map.ok()) {
    const bool absent = map.error().code == Status::kIo || map.error().code == Status::kNotFound;
    return absent ? unknown_map(words, map.error()) : map.error();
  }
  precision::SearchResult result;
  MPQ_TRY(result.selection, precision::Selection::of(graph));
  const auto fits = precision::validate_map(*map, result.selection);
  if (!fits.ok()) return at(words, fits.error());
  result.map = *std::move(map);
  return result;
}

nlohmann::ordered_json frontier_json(const precision::SearchResult& result) {
  nlohmann::ordered_json json;
  json["schema_version"] = 1;
  json["method"] = result.map.method;
  json["cost_model"] = result.map.cost_model;
  json["cost_high"] = result.cost_high;
  json["cost_low"] = result.cost_low;
  auto groups = nlohmann::ordered_json::array();
  for (const precision::Group& group : result.selection.groups) {
    auto names = nlohmann::ordered_json::array();
    for (const uint32_t layer : group.layers) names.push_back(result.selection.layers[layer].name);
    groups.push_back(std::move(names));
  }
  json["groups"] = std::move(groups);
  auto points = nlohmann::ordered_json::array();
  for (const precision::FrontierPoint& point : result.frontier)
    points.push_back({{"budget", point.budget},
                      {"cost", point.cost},
                      {"gain", point.gain},
                      {"bound", point.bound},
                      {"bits", point.bits}});
  json["points"] = std::move(points);
  return json;
}

std::string describe(const precision::SearchResult& result) {
  std::map<std::string, size_t, std::greater<>> layers;
  for (const format::MapLayer& layer : result.map.layers)
    ++layers[precision::to_string(precision::Bits{layer.weight_bits, layer.activation_bits})];
  std::string bits;
  for (const auto& [width, count] : layers)
    bits += fmt::format("{}{} layer{} at {} bit", bits.empty() ? "" : ", ", count,
                        count == 1 ? "" : "s", width);
  std::string text = fmt::format("precision map ({}): {}", result.map.method, bits);
  if (result.cost_high > 0.0)
    text +=
        fmt::format("; {:.1f} % of the {} at the highest precision (first and last layer apart)",
                    100.0 * result.cost / result.cost_high, result.map.cost_model);
  if (result.map.bound > 0.0)
    text += fmt::format("; gain {:.4g}, at most {:.4g}", result.map.value, result.map.bound);
  return text;
}

}  // namespace mpq::convert::cli
