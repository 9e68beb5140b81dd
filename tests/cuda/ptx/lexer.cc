#include "tests/cuda/ptx/lexer.h"

#include <charconv>

namespace mpq::ptx {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c == '%';
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  Result<std::vector<Token>> run() {
    for (;;) {
      if (!skip_blank()) return error("unterminated comment");
      if (at_ == text_.size()) break;
      const char c = text_[at_];
      if (letter(c) || (c == '.' && (letter(peek(1))))) {
        word();
      } else if (digit(c)) {
        if (!number()) return error("malformed number");
      } else if (c == '"') {
        const size_t end = text_.find('"', at_ + 1);
        if (end == std::string_view::npos) return error("unterminated string");
        push(Token::Kind::kString, text_.substr(at_ + 1, end - at_ - 1));
        at_ = end + 1;
      } else if (std::string_view("{}[]()<>,;:|!+-=@").find(c) != std::string_view::npos) {
        push(Token::Kind::kMark, text_.substr(at_++, 1));
      } else {
        return error(std::string("unexpected character '") + c + "'");
      }
    }
    push(Token::Kind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  char peek(size_t ahead) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  Error error(const std::string& what) const {
    return {Status::kCorrupt, "ptx line " + std::to_string(line_) + ": " + what};
  }

  void push(Token::Kind kind, std::string_view text, int64_t value = 0) {
    tokens_.push_back({kind, text, value, line_});
  }

  bool skip_blank() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '\n') ++line_;
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++at_;
      } else if (c == '/' && peek(1) == '/') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (c == '/' && peek(1) == '*') {
        for (at_ += 2; at_ < text_.size() && !(text_[at_] == '*' && peek(1) == '/'); ++at_)
          if (text_[at_] == '\n') ++line_;
        if (at_ == text_.size()) return false;
        at_ += 2;
      } else {
        break;
      }
    }
    return true;
  }

  // Words run over '.' and '::', so that an opcode with all modifiers is one word.
  void word() {
    const size_t begin = at_++;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (letter(c) || digit(c) || (c == '.' && (letter(peek(1)) || digit(peek(1))))) {
        ++at_;
      } else if (c == ':' && peek(1) == ':') {
        at_ += 2;
      } else {
        break;
      }
    }
    push(Token::Kind::kWord, text_.substr(begin, at_ - begin));
  }

  bool number() {
    const size_t begin = at_;
    while (digit(peek(0)) || letter(peek(0)) || peek(0) == '.') ++at_;
    std::string_view body = text_.substr(begin, at_ - begin);
    Token::Kind kind = Token::Kind::kInteger;
    int base = 10;
    const std::string_view whole = body;
    if (body.starts_with("0f") || body.starts_with("0F")) {
      kind = Token::Kind::kFloat;
      if (body.size() != 10) return false;
      base = 16;
      body.remove_prefix(2);
    } else if (body.starts_with("0x") || body.starts_with("0X")) {
      base = 16;
      body.remove_prefix(2);
    } else if (body.size() > 1 && body[0] == '0' && body.find('.') == std::string_view::npos) {
      return false;  // octal, binary and doubles: nvcc writes none in integer code
    }
    if (kind == Token::Kind::kInteger && base == 10 && (body.ends_with('U') || body.ends_with('u')))
      body.remove_suffix(1);
    if (body.find('.') != std::string_view::npos) {  // of .version 9.0
      push(Token::Kind::kWord, whole);
      return true;
    }
    uint64_t value = 0;
    const auto [end, status] = std::from_chars(body.data(), body.data() + body.size(), value, base);
    if (status != std::errc() || end != body.data() + body.size()) return false;
    push(kind, whole, static_cast<int64_t>(value));
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize(std::string_view text) { return Lexer(text).run(); }

}  // namespace mpq::ptx
