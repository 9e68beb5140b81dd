#include "integrations/server/log.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <ctime>

namespace mpq::serve {

namespace {

bool as_json = true;
constexpr std::array<const char*, 3> kLevels = {"info", "warning", "error"};

std::string now() {
  const auto time = std::chrono::system_clock::now().time_since_epoch();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
  const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[40];
  const size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  char fraction[8];
  std::snprintf(fraction, sizeof fraction, ".%03dZ", static_cast<int>(ms % 1000));
  return std::string(text, size) + fraction;
}

}  // namespace

void set_log_format(bool json) { as_json = json; }

void log(Level level, const std::string& event, const Json& fields) {
  const char* const word = kLevels[static_cast<size_t>(level)];
  std::string line;
  if (as_json) {
    nlohmann::ordered_json object = {{"time", now()}, {"level", word}, {"event", event}};
    for (const auto& [key, value] : fields.items()) object[key] = value;
    line = object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  } else {
    line = now() + " " + word + " " + event;
    for (const auto& [key, value] : fields.items())
      line += " " + key + "=" + value.dump(-1, ' ', false, Json::error_handler_t::replace);
    line += "\n";
  }
  // One write a line, so that lines of several threads stay whole.
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

}  // namespace mpq::serve
