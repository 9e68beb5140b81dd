// JSON from outside as values: bounded in depth, nothing thrown.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "converter/data/read_file.h"
#include "format/status.h"

namespace mpq::data {

using Json = nlohmann::json;

inline Result<Json> parse_json(std::string_view text) {
  constexpr int kMaxDepth = 32;  // printing a value recurses
  bool deep = false;
  const auto watch = [&deep](int depth, Json::parse_event_t, Json&) {
    deep = deep || depth > kMaxDepth;
    return !deep;
  };
  Json json = Json::parse(text, watch, false);
  if (deep) return Error{Status::kLimit, "JSON is nested deeper than " + std::to_string(kMaxDepth)};
  if (json.is_discarded()) return Error{Status::kCorrupt, "no valid JSON"};
  return json;
}

// The same of a file; errors name it.
inline Result<Json> read_json(const std::string& path, uint64_t max_bytes) {
  MPQ_TRY(const std::vector<std::byte> bytes, read_file(path, max_bytes));
  auto json = parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!json.ok()) return Error{json.error().code, path + ": " + json.error().message};
  return json;
}

// A member of an object; null when it is absent or the value is no object.
inline const Json& member(const Json& object, std::string_view key) {
  static const Json kNull;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? kNull : *found;
}

// A value for messages: its JSON, cut when long.
inline std::string shown(const Json& value) {
  constexpr size_t kLongest = 80;
  const std::string text = value.dump(-1, ' ', true);
  return text.size() > kLongest ? text.substr(0, kLongest) + "..." : text;
}

}  // namespace mpq::data
