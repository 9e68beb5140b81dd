// What config.json of a Hugging Face folder says about a BERT or MPNet encoder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "format/status.h"

namespace mpq::convert::transformer {

// MPNet is BERT with one relative-position bias shared by all layers, no token types, and positions
// that are counted from pad_id + 1.
enum class Architecture { kBert, kMpnet };
// What follows the encoder. Heads that only training needs (masked words) count as none.
enum class Head { kNone, kSequenceClassification, kQuestionAnswering };
enum class Activation { kGelu, kGeluTanh };  // by the error function; by its tanh approximation

struct EncoderConfig {
  Architecture architecture = Architecture::kBert;
  Head head = Head::kNone;
  Activation hidden_act = Activation::kGelu;
  size_t layers = 0, heads = 0, hidden = 0, intermediate = 0;
  size_t vocab = 0, type_vocab = 0;  // type_vocab 0: no token types
  size_t max_positions = 0;          // rows of the position table
  size_t relative_buckets = 0;       // 0: no relative-position bias
  size_t pad_id = 0;
  float layer_norm_eps = 0;
  std::vector<std::string> labels;  // of a sequence classification, by class

  // The row of the first token in the position table, and the longest sequence that this leaves.
  size_t first_position() const { return architecture == Architecture::kMpnet ? pad_id + 1 : 0; }
  size_t max_tokens() const { return max_positions - first_position(); }
};

// The text of config.json. An error names the field, its value and what to do.
Result<EncoderConfig> parse_config(std::string_view json);
// FOLDER/config.json.
Result<EncoderConfig> read_config(const std::string& folder);

}  // namespace mpq::convert::transformer
