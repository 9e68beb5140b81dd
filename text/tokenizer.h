// WordPiece as BERT has it (Devlin et al., arXiv 1810.04805): text -> ids of a vocabulary, the same
// as Hugging Face's tokenizers give.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "format/model.h"
#include "format/status.h"
#include "text/normalise.h"

namespace mpq::text {

struct Encoding {
  std::vector<int32_t> ids;
  std::vector<int32_t> types;   // 0; 1 for the second text and the separator behind it
  std::vector<Span> places;     // in the text that the token is of; empty for special tokens
  std::vector<int8_t> sources;  // 0 or 1: the first or second text; -1: a special token
  size_t cut = 0;               // tokens that did not fit
};

// Immutable: any number of threads may use one.
class Tokenizer {
 public:
  // `vocabulary`: tokens in the order of their ids, a line feed behind each. An error for settings
  // whose ids it does not have, and for a token that it has twice.
  static Result<Tokenizer> create(const format::TextPreprocess& settings,
                                  std::string_view vocabulary);

  // At most max_tokens tokens, special ones included; fewer than those take no text at all. Of two
  // texts, the longer one is cut first. Bytes that are no UTF-8 count as U+FFFD. Texts of 4 GiB and
  // more are cut.
  Encoding encode(std::string_view text, size_t max_tokens) const;
  Encoding encode(std::string_view text, std::string_view pair, size_t max_tokens) const;

  size_t vocabulary_size() const { return tokens_.size(); }
  const std::string& token(size_t id) const { return tokens_[id]; }

 private:
  struct Piece {
    int32_t id;
    Span place;
  };
  struct Special {
    std::string token;
    int32_t id;
  };
  Tokenizer() = default;
  void words(std::string_view text, Span span, std::vector<Piece>* pieces) const;
  void word(const std::vector<Character>& characters, size_t begin, size_t end,
            std::vector<Piece>* pieces) const;
  std::vector<Piece> pieces(std::string_view text) const;
  int32_t find(const std::string& token) const;

  format::TextPreprocess settings_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<Special> specials_;  // found in text as they are, never split
};

}  // namespace mpq::text
