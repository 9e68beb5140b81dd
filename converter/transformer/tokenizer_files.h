// What a Hugging Face folder says about its WordPiece tokeniser.
#pragma once

#include <string>

#include "format/model.h"
#include "format/status.h"

namespace mpq::convert::transformer {

struct TokenizerFiles {
  format::TextPreprocess settings;
  std::string vocabulary;  // tokens in the order of their ids, a line feed behind each
};

// FOLDER/tokenizer.json; without it vocab.txt and tokenizer_config.json. An error names the file,
// the field and its value when the tokeniser is another one than text/tokenizer.h has.
Result<TokenizerFiles> read_tokenizer(const std::string& folder);

}  // namespace mpq::convert::transformer
