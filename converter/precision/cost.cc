#include "converter/precision/cost.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace mpq::convert::precision {
namespace {

using Json = nlohmann::json;

constexpr std::array<const char*, 5> kNames = {"bmac", "bops", "bytes", "latency", "energy"};
constexpr char kEveryMac[] = "*";

Error malformed(const std::string& what) { return Error{Status::kCorrupt, "cost table: " + what}; }

bool is_width(int64_t bits) { return bits == 2 || bits == 4 || bits == 8; }

}  // namespace

const char* to_string(CostModel model) { return kNames[static_cast<size_t>(model)]; }

bool parse_cost_model(const std::string& text, CostModel* model) {
  const auto* const found = std::find(kNames.begin(), kNames.end(), text);
  if (found == kNames.end()) return false;
  *model = static_cast<CostModel>(found - kNames.begin());
  return true;
}

std::string to_string(Bits bits) {
  const std::string weight = std::to_string(bits.weight);
  return bits.weight == bits.activation ? weight : weight + "/" + std::to_string(bits.activation);
}

Result<Bits> parse_bits(const std::string& text) {
  Bits bits;
  const auto number = [](std::string_view word, int* value) {
    const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), *value);
    return error == std::errc() && rest == word.data() + word.size() && is_width(*value);
  };
  const size_t slash = text.find('/');
  const std::string_view view = text;
  const bool ok =
      number(view.substr(0, slash), &bits.weight) &&
      number(slash == std::string::npos ? view : view.substr(slash + 1), &bits.activation);
  if (!ok)
    return Error{Status::kInvalidArgument,
                 "'" + text + "' is no precision: 8, 4 or 2, or weights/activations such as 4/8"};
  return bits;
}

Result<double> layer_cost(const Layer& layer, Bits bits, CostModel model, const CostTable& table) {
  const auto macs = static_cast<double>(layer.macs);
  switch (model) {
    case CostModel::kBmac:
      return macs * std::max(bits.weight, bits.activation);
    case CostModel::kBops:
      return macs * bits.weight * bits.activation;
    case CostModel::kBytes:
      return static_cast<double>(layer.weights) * bits.weight / 8.0;
    case CostModel::kLatency:
    case CostModel::kEnergy:
      break;
  }
  for (const auto& [row, scale] :
       {std::pair{layer.name, 1.0}, std::pair{std::string(kEveryMac), macs}}) {
    const auto costs = table.find(row);
    if (costs == table.end()) continue;
    const auto cost = costs->second.find(bits);
    if (cost != costs->second.end()) return cost->second * scale;
  }
  return Error{Status::kNotFound, layer.name + ": the " + to_string(model) +
                                      " table has no entry at " + to_string(bits) + " bit"};
}

Result<CostTable> parse_cost_table(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || json.value("schema_version", Json()) != 1 || !json.contains("layers") ||
      !json["layers"].is_object())
    return malformed("no JSON object with schema_version 1 and layers");
  CostTable table;
  for (const auto& [name, costs] : json["layers"].items()) {
    if (!costs.is_object()) return malformed(name + ": no object of bits and costs");
    for (const auto& [bits_text, cost] : costs.items()) {
      MPQ_TRY(const Bits bits, parse_bits(bits_text));
      if (!cost.is_number() || !std::isfinite(cost.get<double>()) || cost.get<double>() < 0.0)
        return malformed(name + " at " + bits_text + " bit: the cost is no number of at least 0");
      table[name][bits] = cost.get<double>();
    }
  }
  return table;
}

// {"layers": [{"name": "conv1", "bits": "w4a4", "time_ns": 81000, ...}, ...]}; what follows the two
// widths in "bits" is of no interest here.
Checked add_profile(const std::string& text, CostTable* table) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("layers") || !json["layers"].is_array())
    return Error{Status::kCorrupt, "is no profile: a JSON object with layers"};
  std::map<std::pair<std::string, Bits>, double> times;  // a layer may take several steps
  for (const Json& row : json["layers"]) {
    if (!row.is_object() || !row.contains("name") || !row["name"].is_string() ||
        !row.contains("bits") || !row["bits"].is_string() || !row.contains("time_ns") ||
        !row["time_ns"].is_number())
      return Error{Status::kCorrupt, "layer without name, bits and time_ns"};
    const std::string bits = row["bits"].get<std::string>();
    if (bits.size() < 4 || bits[0] != 'w' || bits[2] != 'a')
      continue;  // no weights: no choice either
    MPQ_TRY(const Bits parsed, parse_bits(std::string{bits[1], '/', bits[3]}));
    times[{row["name"].get<std::string>(), parsed}] += row["time_ns"].get<double>();
  }
  if (times.empty()) return Error{Status::kCorrupt, "has no layer with weights"};
  for (const auto& [key, time] : times) (*table)[key.first][key.second] = time;
  return Ok{};
}

}  // namespace mpq::convert::precision
