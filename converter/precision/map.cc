#include "converter/precision/map.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <span>

#include "converter/precision/names.h"

namespace mpq::convert::precision {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSchemaVersion = 1;
constexpr size_t kMaxPattern = 256;

Error malformed(const std::string& what) {
  return Error{Status::kCorrupt, "precision map: " + what};
}
Error invalid(const std::string& what) {
  return Error{Status::kInvalidArgument, "precision map: " + what};
}

// Texts and numbers at the top of the document, in the order in which they are written.
struct TextField {
  const char* key;
  std::string PrecisionMap::*member;
};
constexpr TextField kTexts[] = {
    {"method", &PrecisionMap::method},
    {"cost_model", &PrecisionMap::cost_model},
    {"solver", &PrecisionMap::solver},
    {"checkpoint", &PrecisionMap::checkpoint},
    {"source_sha256", &PrecisionMap::source_sha256},
};
struct NumberField {
  const char* key;
  double PrecisionMap::*member;
};
constexpr NumberField kNumbers[] = {{"budget", &PrecisionMap::budget},
                                    {"value", &PrecisionMap::value},
                                    {"bound", &PrecisionMap::bound}};
struct GroupField {
  const char* key;
  double format::MapGroup::*member;
};
constexpr GroupField kGroupNumbers[] = {{"gain", &format::MapGroup::gain},
                                        {"gain_stderr", &format::MapGroup::gain_stderr},
                                        {"cost_high", &format::MapGroup::cost_high},
                                        {"cost_low", &format::MapGroup::cost_low}};

Checked known_keys(const Json& object, const std::string& where,
                   std::span<const std::string> keys) {
  if (!object.is_object()) return malformed(where + " is no object");
  for (const auto& [key, unused] : object.items())
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      return malformed(where + ": unknown key '" + key + "'" + suggestion(key, keys));
  return Ok{};
}

Result<uint64_t> natural(const Json& object, const std::string& where, const char* key,
                         uint64_t limit) {
  if (!object.contains(key)) return malformed(where + ": '" + key + "' is missing");
  const Json& value = object[key];
  if (!value.is_number_integer() || value < 0 || value > limit)
    return malformed(where + ": '" + key + "' is " + value.dump() +
                     ", expected an integer from 0 to " + std::to_string(limit));
  return value.get<uint64_t>();
}

Result<double> number(const Json& object, const std::string& where, const char* key) {
  if (!object.contains(key)) return 0.0;
  const Json& value = object[key];
  if (!value.is_number() || !std::isfinite(value.get<double>()))
    return malformed(where + ": '" + key + "' is " + value.dump() + ", expected a number");
  return value.get<double>();
}

Result<format::MapLayer> parse_layer(const Json& json, size_t index) {
  static const std::string kKeys[] = {"name", "weight_bits", "activation_bits", "group"};
  std::string where = "layer " + std::to_string(index);
  MPQ_CHECK(known_keys(json, where, kKeys));
  if (!json.contains("name") || !json["name"].is_string() ||
      json["name"].get<std::string>().empty())
    return malformed(where + ": 'name' is missing");
  format::MapLayer layer;
  layer.node = json["name"].get<std::string>();
  where = layer.node;
  constexpr uint64_t kMaxGroups = 1 << 20;
  MPQ_TRY(const uint64_t weight, natural(json, where, "weight_bits", 8));
  MPQ_TRY(const uint64_t activation, natural(json, where, "activation_bits", 8));
  layer.weight_bits = static_cast<uint8_t>(weight);
  layer.activation_bits = static_cast<uint8_t>(activation);
  if (json.contains("group")) {
    MPQ_TRY(const uint64_t group, natural(json, where, "group", kMaxGroups));
    layer.group = static_cast<uint32_t>(group);
  }
  return layer;
}

Result<format::MapGroup> parse_group(const Json& json, size_t index) {
  static const std::string kKeys[] = {"id",        "gain",     "gain_stderr",
                                      "cost_high", "cost_low", "fixed"};
  const std::string where = "group " + std::to_string(index);
  MPQ_CHECK(known_keys(json, where, kKeys));
  if (json.contains("id") && json["id"] != index)
    return malformed(where + ": its id is " + json["id"].dump());
  format::MapGroup group;
  for (const GroupField& field : kGroupNumbers) {
    MPQ_TRY(group.*field.member, number(json, where, field.key));
  }
  if (json.contains("fixed")) {
    if (!json["fixed"].is_boolean()) return malformed(where + ": 'fixed' is no boolean");
    group.fixed = json["fixed"].get<bool>();
  }
  return group;
}

std::string bits_text(const format::MapLayer& layer) {
  return to_string(Bits{layer.weight_bits, layer.activation_bits});
}

std::vector<std::string> names_of(const PrecisionMap& map) {
  std::vector<std::string> names;
  for (const format::MapLayer& layer : map.layers) names.push_back(layer.node);
  return names;
}

}  // namespace

std::string print_map(const PrecisionMap& map) {
  Json head;
  head["schema_version"] = kSchemaVersion;
  for (const TextField& field : kTexts)
    if (!(map.*field.member).empty()) head[field.key] = map.*field.member;
  for (const NumberField& field : kNumbers) head[field.key] = map.*field.member;
  head["seed"] = map.seed;
  // nlohmann's dump puts every value on its own line; a layer a line is what people read and diff.
  std::string text = head.dump(2, ' ', false, Json::error_handler_t::replace);
  text.erase(text.size() - 2);  // "\n}"
  const auto append = [&](const char* key, const std::vector<Json>& rows) {
    text += std::string(",\n  \"") + key + "\": [";
    for (size_t i = 0; i < rows.size(); ++i)
      text += (i == 0 ? "\n    " : ",\n    ") +
              rows[i].dump(-1, ' ', false, Json::error_handler_t::replace);
    text += rows.empty() ? "]" : "\n  ]";
  };
  std::vector<Json> rows;
  for (const format::MapLayer& layer : map.layers)
    rows.push_back({{"name", layer.node},
                    {"weight_bits", layer.weight_bits},
                    {"activation_bits", layer.activation_bits},
                    {"group", layer.group}});
  append("layers", rows);
  rows.clear();
  for (size_t i = 0; i < map.groups.size(); ++i) {
    Json row = {{"id", i}};
    for (const GroupField& field : kGroupNumbers) row[field.key] = map.groups[i].*field.member;
    row["fixed"] = map.groups[i].fixed;
    rows.push_back(std::move(row));
  }
  append("groups", rows);
  return text + "\n}\n";
}

Result<PrecisionMap> parse_map(const std::string& text) {
  static const std::string kKeys[] = {"schema_version", "method",        "cost_model", "solver",
                                      "checkpoint",     "source_sha256", "budget",     "value",
                                      "bound",          "seed",          "layers",     "groups"};
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return malformed("is no JSON");
  MPQ_CHECK(known_keys(json, "the document", kKeys));
  MPQ_TRY(const uint64_t version, natural(json, "the document", "schema_version", 1U << 30));
  if (version != kSchemaVersion)
    return Error{Status::kUnsupported, "precision map: schema_version " + std::to_string(version) +
                                           ", this build reads " + std::to_string(kSchemaVersion)};
  PrecisionMap map;
  for (const TextField& field : kTexts) {
    if (!json.contains(field.key)) continue;
    if (!json[field.key].is_string())
      return malformed(std::string("'") + field.key + "' is no text");
    map.*field.member = json[field.key].get<std::string>();
  }
  for (const NumberField& field : kNumbers) {
    MPQ_TRY(map.*field.member, number(json, "the document", field.key));
  }
  if (json.contains("seed")) {
    MPQ_TRY(map.seed, natural(json, "the document", "seed", std::numeric_limits<int64_t>::max()));
  }
  if (!json.contains("layers") || !json["layers"].is_array())
    return malformed("'layers' is no array");
  for (const Json& row : json["layers"]) {
    MPQ_TRY(format::MapLayer layer, parse_layer(row, map.layers.size()));
    map.layers.push_back(std::move(layer));
  }
  if (json.contains("groups")) {
    if (!json["groups"].is_array()) return malformed("'groups' is no array");
    for (const Json& row : json["groups"]) {
      MPQ_TRY(const format::MapGroup group, parse_group(row, map.groups.size()));
      map.groups.push_back(group);
    }
  }
  MPQ_CHECK(validate_map(map));
  return map;
}

Result<size_t> set_bits(PrecisionMap* map, const std::string& pattern, Bits bits) {
  constexpr std::string_view kRegex = "re:";
  const bool is_regex = pattern.starts_with(kRegex);
  std::regex regex;
  if (is_regex) {
    if (pattern.size() > kMaxPattern)
      return invalid("the pattern is longer than " + std::to_string(kMaxPattern));
    try {  // the only way to learn that a pattern is malformed
      regex.assign(pattern.substr(kRegex.size()), std::regex::ECMAScript);
    } catch (const std::regex_error& error) {
      return invalid("pattern '" + pattern + "': " + error.what());
    }
  }
  size_t changed = 0;
  for (format::MapLayer& layer : map->layers) {
    if (is_regex ? !std::regex_match(layer.node, regex) : layer.node != pattern) continue;
    layer.weight_bits = static_cast<uint8_t>(bits.weight);
    layer.activation_bits = static_cast<uint8_t>(bits.activation);
    ++changed;
  }
  if (changed == 0)
    return invalid("no layer matches '" + pattern + "'" + suggestion(pattern, names_of(*map)));
  constexpr std::string_view kEdited = "+edited";
  if (!map->method.ends_with(kEdited)) map->method += kEdited;
  map->value = map->bound = 0.0;  // no longer the solver's
  return changed;
}

std::vector<MapDifference> diff_maps(const PrecisionMap& left, const PrecisionMap& right) {
  std::map<std::string, std::string> other;
  for (const format::MapLayer& layer : right.layers) other[layer.node] = bits_text(layer);
  std::vector<MapDifference> differences;
  for (const format::MapLayer& layer : left.layers) {
    const auto found = other.find(layer.node);
    const std::string there = found == other.end() ? "-" : found->second;
    if (there != bits_text(layer)) differences.push_back({layer.node, bits_text(layer), there});
    if (found != other.end()) other.erase(found);
  }
  for (const format::MapLayer& layer : right.layers)
    if (other.count(layer.node) != 0) differences.push_back({layer.node, "-", bits_text(layer)});
  return differences;
}

Checked validate_map(const PrecisionMap& map) {
  std::set<std::string> seen;
  std::map<uint32_t, const format::MapLayer*> first_of_group;
  for (const format::MapLayer& layer : map.layers) {
    for (const int bits : {layer.weight_bits, layer.activation_bits})
      if (bits != 2 && bits != 4 && bits != 8)
        return invalid(layer.node + ": " + std::to_string(bits) + " bits, expected 2, 4 or 8");
    if (!seen.insert(layer.node).second) return invalid(layer.node + ": appears twice");
    if (map.groups.empty()) continue;
    if (layer.group >= map.groups.size())
      return invalid(layer.node + ": group " + std::to_string(layer.group) + " of " +
                     std::to_string(map.groups.size()));
    const auto [first, is_new] = first_of_group.emplace(layer.group, &layer);
    if (!is_new && first->second->activation_bits != layer.activation_bits)
      return invalid(layer.node + " reads " + std::to_string(layer.activation_bits) +
                     " bits, but " + first->second->node + " reads the same tensor at " +
                     std::to_string(first->second->activation_bits));
  }
  return Ok{};
}

Checked validate_map(const PrecisionMap& map, const Selection& selection) {
  MPQ_CHECK(validate_map(map));
  std::vector<std::string> names;
  for (const Layer& layer : selection.layers) names.push_back(layer.name);
  std::map<std::string, const format::MapLayer*> rows;
  for (const format::MapLayer& layer : map.layers) {
    if (std::find(names.begin(), names.end(), layer.node) == names.end())
      return invalid("the network has no layer '" + layer.node + "'" +
                     suggestion(layer.node, names));
    rows[layer.node] = &layer;
  }
  for (const Group& group : selection.groups) {
    const format::MapLayer* first = nullptr;
    for (const uint32_t index : group.layers) {
      const auto row = rows.find(selection.layers[index].name);
      if (row == rows.end())
        return invalid("layer '" + selection.layers[index].name + "' is missing");
      if (first == nullptr) first = row->second;
      if (first->activation_bits != row->second->activation_bits)
        return invalid(row->first + " reads " + std::to_string(row->second->activation_bits) +
                       " bits, but " + first->node + " reads the same tensor at " +
                       std::to_string(first->activation_bits));
    }
  }
  return Ok{};
}

}  // namespace mpq::convert::precision
