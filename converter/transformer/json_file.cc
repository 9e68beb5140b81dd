#include "converter/transformer/json_file.h"

#include "converter/data/read_file.h"

namespace mpq::convert::transformer {

Result<Json> parse_json(std::string_view text) {
  constexpr int kMaxDepth = 32;  // printing a value recurses
  bool deep = false;
  const auto watch = [&deep](int depth, Json::parse_event_t, Json&) {
    deep = deep || depth > kMaxDepth;
    return !deep;
  };
  Json json = Json::parse(text, watch, false);
  if (deep) return Error{Status::kLimit, "JSON nested deeper than " + std::to_string(kMaxDepth)};
  if (json.is_discarded()) return Error{Status::kCorrupt, "no valid JSON"};
  return json;
}

Result<std::string> read_text(const std::string& path) {
  constexpr uint64_t kMaxBytes = uint64_t{1} << 20;
  MPQ_TRY(const std::vector<std::byte> bytes, data::read_file(path, kMaxBytes));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? kNull : *found;
}

std::string shown(const Json& value) {
  constexpr size_t kLongest = 80;
  const std::string text = value.dump(-1, ' ', true);
  return text.size() > kLongest ? text.substr(0, kLongest) + "..." : text;
}

}  // namespace mpq::convert::transformer
