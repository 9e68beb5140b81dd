// Structured logs on stderr: a JSON object a line, or plain text. Any thread.
#pragma once

#include <string>

#include "integrations/server/config.h"

namespace mpq::serve {

enum class Level { kInfo, kWarning, kError };

/// Before the first log line.
void set_log_format(bool json);

/// fields: an object; its keys follow time, level and event.
void log(Level level, const std::string& event, const Json& fields = Json::object());

}  // namespace mpq::serve
