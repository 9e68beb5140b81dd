// Text as BERT's normaliser leaves it, each character with its place in the original.
#pragma once

#include <string_view>
#include <vector>

#include "format/model.h"

namespace mpq::text {

struct Span {
  uint32_t begin = 0, end = 0;  // bytes
};

struct Character {
  uint32_t code = 0;
  Span place;  // of the code point that it comes from
};

// Of text[span]: without control characters, ideographs between spaces, without accents (NFD less
// nonspacing marks), lower case; each as the settings say, in this order.
std::vector<Character> normalise(std::string_view text, Span span,
                                 const format::TextPreprocess& settings);

}  // namespace mpq::text
