// Tokens of PTX text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "format/status.h"

namespace mpq::ptx {

struct Token {
  enum class Kind : uint8_t { kWord, kInteger, kFloat, kString, kMark, kEnd };
  Kind kind = Kind::kEnd;
  std::string_view text;  // a word: identifier, register, directive or whole opcode
  int64_t value = 0;      // kInteger; kFloat: bits of binary32
  uint32_t line = 0;

  bool is(std::string_view mark) const {
    return (kind == Kind::kMark || kind == Kind::kWord) && text == mark;
  }
};

// The last token is kEnd. Tokens borrow `text`.
Result<std::vector<Token>> tokenize(std::string_view text);

}  // namespace mpq::ptx
