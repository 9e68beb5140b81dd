// Small JSON documents from outside, as values; nothing here throws.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "format/status.h"

namespace mpq::convert::transformer {

using Json = nlohmann::json;

Result<Json> parse_json(std::string_view text);
// The text of a file of at most 1 MiB. Errors name the path.
Result<std::string> read_text(const std::string& path);

// A member of an object; null when it is absent or the value is no object.
const Json& member(const Json& object, const char* key);
// A value for messages: its JSON, cut when long.
std::string shown(const Json& value);

}  // namespace mpq::convert::transformer
