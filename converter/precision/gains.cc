// Gains measured elsewhere:
//
//   {"schema_version": 1, "method": "alps",
//    "groups": [{"layers": ["layer1.0.conv1"], "gain": 0.012, "standard_error": 0.002}, ...]}
//
// or a CSV of layer, gain and, if known, standard error, whose first line may name the columns.
// "gain" has one number for two precisions, an array of one fewer than the precisions for more:
// what each is worth over the lowest. Layers of one group add up.
#include <cmath>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "converter/data/read_file.h"
#include "converter/precision/names.h"
#include "converter/precision/selector.h"

namespace mpq::convert::precision {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxBytes = uint64_t{64} << 20;

struct Row {
  std::vector<std::string> layers;
  std::vector<double> gain;
  double standard_error = 0.0;
};
struct GainFile {
  std::string method = "gains";
  std::vector<Row> rows;
};

Error malformed(const std::string& what) { return Error{Status::kCorrupt, what}; }

bool is_finite(const Json& json) { return json.is_number() && std::isfinite(json.get<double>()); }

Result<Row> parse_row(const Json& json, size_t index) {
  const std::string where = "group " + std::to_string(index);
  if (!json.is_object() || !json.contains("layers") || !json["layers"].is_array() ||
      json["layers"].empty() || !json.contains("gain"))
    return malformed(where + ": no object with layers and gain");
  Row row;
  for (const Json& layer : json["layers"]) {
    if (!layer.is_string()) return malformed(where + ": a layer's name is no text");
    row.layers.push_back(layer.get<std::string>());
  }
  const Json& gain = json["gain"];
  for (const Json& number : gain.is_array() ? gain : Json::array({gain})) {
    if (!is_finite(number)) return malformed(row.layers[0] + ": gain " + number.dump());
    row.gain.push_back(number.get<double>());
  }
  if (json.contains("standard_error")) {
    const Json& error = json["standard_error"];
    if (!is_finite(error) || error.get<double>() < 0.0)
      return malformed(row.layers[0] + ": standard_error " + error.dump());
    row.standard_error = error.get<double>();
  }
  return row;
}

Result<GainFile> parse_json(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || json.value("schema_version", Json()) != 1 || !json.contains("groups") ||
      !json["groups"].is_array())
    return malformed("no JSON object with schema_version 1 and groups");
  GainFile file;
  if (json.contains("method") && json["method"].is_string())
    file.method = json["method"].get<std::string>();
  for (const Json& entry : json["groups"]) {
    MPQ_TRY(Row row, parse_row(entry, file.rows.size()));
    file.rows.push_back(std::move(row));
  }
  return file;
}

bool parse_number(const std::string& text, double* number) {
  char* end = nullptr;
  *number = std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0' && std::isfinite(*number);
}

Result<GainFile> parse_csv(const std::string& text) {
  GainFile file;
  size_t line_number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    std::vector<std::string> cells(1);
    for (const char c : line)
      if (c == ',')
        cells.emplace_back();
      else if (c != ' ' && c != '"')
        cells.back() += c;
    Row row{{cells[0]}, {0.0}};
    const bool ok = (cells.size() == 2 || cells.size() == 3) &&
                    parse_number(cells[1], &row.gain[0]) &&
                    (cells.size() == 2 ||
                     (parse_number(cells[2], &row.standard_error) && row.standard_error >= 0.0));
    if (ok)
      file.rows.push_back(std::move(row));
    else if (line_number > 1)  // the first may be a heading
      return malformed("line " + std::to_string(line_number) +
                       ": expected layer,gain or layer,gain,standard_error");
  }
  return file;
}

Result<GainFile> read_gains(const std::string& path) {
  MPQ_TRY(const std::vector<std::byte> bytes, data::read_file(path, kMaxBytes));
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return malformed("is empty");
  return text[first] == '{' ? parse_json(text) : parse_csv(text);
}

Result<Scores> scores_of(const Question& question, const GainFile& file) {
  const Selection& selection = question.selection;
  const size_t choices = question.options.bits.size();
  std::map<std::string, uint32_t> group_of;
  std::vector<std::string> names;
  for (const Layer& layer : selection.layers) {
    group_of[layer.name] = layer.group;
    names.push_back(layer.name);
  }
  Scores scores;
  scores.method = file.method;
  scores.gain.assign(selection.groups.size(), std::vector<double>(choices));
  scores.standard_error.assign(selection.groups.size(), 0.0);
  std::set<std::string> seen;
  std::set<uint32_t> scored;
  for (const Row& row : file.rows) {
    if (row.gain.size() + 1 != choices)
      return malformed(row.layers[0] + ": " + std::to_string(row.gain.size()) +
                       (row.gain.size() == 1 ? " gain" : " gains") + " for a search among " +
                       std::to_string(choices) + " precisions, expected " +
                       std::to_string(choices - 1));
    for (const std::string& layer : row.layers) {
      const auto known = group_of.find(layer);
      if (known == group_of.end())
        return malformed("the network has no layer '" + layer + "'" + suggestion(layer, names));
      if (!seen.insert(layer).second) return malformed(layer + ": appears twice");
      if (known->second != group_of.at(row.layers[0]))
        return malformed(layer + " and " + row.layers[0] + " are of different groups");
    }
    const uint32_t group = group_of.at(row.layers[0]);
    scored.insert(group);
    for (size_t b = 0; b + 1 < choices; ++b) scores.gain[group][b] += row.gain[b];
    scores.standard_error[group] = std::hypot(scores.standard_error[group], row.standard_error);
  }
  for (uint32_t g = 0; g < selection.groups.size(); ++g)
    if (!selection.groups[g].fixed && !scored.contains(g))
      return malformed("has no gain for " + selection.layers[selection.groups[g].layers[0]].name);
  return scores;
}

}  // namespace

Result<Scores> score_file(const Question& question) {
  const std::string& path = question.options.file;
  if (path.empty())
    return Error{Status::kInvalidArgument,
                 question.options.method +
                     ": needs a file of gains, as in alps:file=gains.json,budget=0.75; mpqconvert "
                     "alps measures them"};
  MPQ_TRY(const GainFile file, read_gains(path));
  auto scores = scores_of(question, file);
  if (!scores.ok()) return Error{scores.error().code, path + ": " + scores.error().message};
  return scores;
}

}  // namespace mpq::convert::precision
