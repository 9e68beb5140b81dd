#include "format/text.h"

#include <cstdint>
#include <cstdio>

namespace mpq::format {
namespace {

// Bytes of the UTF-8 sequence at the start of `text`; 0 when it is malformed, overlong, a surrogate
// or above U+10FFFF. Writes the code point.
size_t decode(std::string_view text, uint32_t* code_point) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) {
    *code_point = first;
    return 1;
  }
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  uint32_t value = first & (0x7FU >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    value = value << 6 | (byte(i) & 0x3FU);
  }
  constexpr uint32_t kLeast[5] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value < 0xE000;
  if (value < kLeast[length] || value > 0x10FFFF || surrogate) return 0;
  *code_point = value;
  return length;
}

}  // namespace

bool is_clean_text(std::string_view text, bool lines) {
  while (!text.empty()) {
    uint32_t c = 0;
    const size_t length = decode(text, &c);
    if (length == 0) return false;
    const bool control = c < 0x20 || (c >= 0x7F && c < 0xA0);
    if (control && !(lines && (c == '\n' || c == '\t'))) return false;
    text.remove_prefix(length);
  }
  return true;
}

void append(std::string& to, double number) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", number);
  to += buffer;
}

}  // namespace mpq::format
