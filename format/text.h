// Text: the rules for names in a file, and building of error messages.
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>

namespace mpq::format {

inline constexpr size_t kMaxName = 255;     // names, labels, keys
inline constexpr size_t kMaxValue = 65535;  // values of key/value metadata

// Well-formed UTF-8 without NUL and control characters (line feed and tab when `lines`).
bool is_clean_text(std::string_view text, bool lines = false);

inline void append(std::string& to, std::string_view text) { to += text; }
void append(std::string& to, double number);
template <std::integral T>
void append(std::string& to, T number) {
  to += std::to_string(number);
}

// concat("conv1: stride ", 0): one string of texts and numbers.
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::string text;
  (append(text, parts), ...);
  return text;
}

}  // namespace mpq::format
