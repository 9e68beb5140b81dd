// The formats of text sets, each from the whole text of its file. Errors name the line or the
// question; the caller adds the file.
#pragma once

#include <string_view>

#include "converter/data/text_dataset.h"

namespace mpq::data {

Result<TextDataset> parse_stsb(std::string_view text);
Result<TextDataset> parse_glue_tsv(std::string_view text);
Result<TextDataset> parse_tsv(std::string_view text);
Result<TextDataset> parse_txt(std::string_view text);
Result<TextDataset> parse_jsonl(std::string_view text);
Result<TextDataset> parse_squad(std::string_view text);

}  // namespace mpq::data
