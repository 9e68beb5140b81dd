// What sentence-transformers put around an encoder: modules.json, its pooling and normalisation.
#pragma once

#include "converter/transformer/config.h"

namespace mpq::convert::transformer {

enum class Pooling { kNone, kMean, kCls };  // over all tokens but padding; the first token

struct SentenceConfig {
  Pooling pooling = Pooling::kNone;
  bool normalise = false;  // to length 1
  size_t max_tokens = 0;   // longer texts are cut, special tokens included
};

// The longest text that FOLDER/sentence_bert_config.json allows, or `otherwise`.
Result<size_t> read_max_tokens(const std::string& folder, size_t otherwise);

// Of a folder without modules.json: no pooling, and as many tokens as the encoder takes.
Result<SentenceConfig> read_sentence_config(const std::string& folder, const EncoderConfig& config);

}  // namespace mpq::convert::transformer
