// What BERT's tokenisers ask about a code point, by utf8proc's tables, as of Unicode 8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mpq::text {

inline constexpr uint32_t kReplacement = 0xFFFD;

bool is_control(uint32_t c);      // Cc, Cf, Co, but not tab and line ends
bool is_space(uint32_t c);        // Unicode's White_Space
bool is_punctuation(uint32_t c);  // P*, and what ASCII has besides letters and digits
bool is_ideograph(uint32_t c);    // CJK, as BERT lists them
bool is_nonspacing_mark(uint32_t c);
int combining_class(uint32_t c);

// The canonical decomposition, one code point or several; the lower case.
void decompose(uint32_t c, std::vector<uint32_t>* out);
void to_lower(uint32_t c, std::vector<uint32_t>* out);

// The code point at `at`, which moves behind it; kReplacement, and one byte on, where the text is
// no UTF-8.
uint32_t next_code_point(std::string_view text, size_t* at);
void append_utf8(uint32_t c, std::string* out);

}  // namespace mpq::text
