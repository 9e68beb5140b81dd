// Sets of texts: sentence pairs with a similarity, sentences with a class, questions with answers.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "format/status.h"

namespace mpq::data {

struct TextSample {
  std::string text;
  std::string pair;    // the second sentence, or the passage a question is about; may be empty
  int32_t label = -1;  // -1: unknown
  double score = std::numeric_limits<double>::quiet_NaN();  // of similarity; NaN: unknown
  std::string id;                                           // of a question
  std::vector<std::string> answers;  // all that are right; none: the passage does not say
};

struct TextDataset {
  std::vector<TextSample> samples;
  std::vector<std::string> class_names;  // sorted; empty where the file has numbers as classes
};

// `spec`: FORMAT:PLACE, with PLACE as in text_file.h.
//   stsb:      STS benchmark: genre, file, year, number, score, sentence, sentence a line, by tabs
//   glue-tsv:  columns by tabs, named in the first line as GLUE names them
//   tsv:       text and class a line, by a tab
//   squad:     SQuAD 1.1 or 2.0 (JSON)
//   txt:       a text a line
//   jsonl:     a JSON object a line, with GLUE's column names or "text", "label"
Result<TextDataset> open_text_dataset(const std::string& spec);
bool is_text_dataset(const std::string& spec);  // begins with one of the formats

}  // namespace mpq::data
