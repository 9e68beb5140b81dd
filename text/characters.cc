#include "text/characters.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "text/unicode8.h"

namespace mpq::text {
namespace {

utf8proc_int32_t code(uint32_t c) { return static_cast<utf8proc_int32_t>(c); }

template <size_t N>
bool in(uint32_t c, const Range (&ranges)[N]) {
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [c](const Range& r) { return c >= r.first && c <= r.last; });
}

constexpr Range kIdeographs[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                 {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                 {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
constexpr Range kSpaces[] = {{9, 13},          {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                             {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                             {0x205F, 0x205F}, {0x3000, 0x3000}};
constexpr Range kAsciiPunctuation[] = {{33, 47}, {58, 64}, {91, 96}, {123, 126}};

}  // namespace

bool is_control(uint32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const utf8proc_category_t category = utf8proc_category(code(c));
  const bool now = category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
                   category == UTF8PROC_CATEGORY_CO;
  return now != in(c, kOtherControls);
}

bool is_space(uint32_t c) { return in(c, kSpaces); }

bool is_punctuation(uint32_t c) {
  if (c < 128) return in(c, kAsciiPunctuation);
  const utf8proc_category_t category = utf8proc_category(code(c));
  const bool now = category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
  return now != in(c, kOtherPunctuation);
}

bool is_ideograph(uint32_t c) { return in(c, kIdeographs); }

bool is_nonspacing_mark(uint32_t c) {
  constexpr uint32_t kFirst = 0x300;  // of all marks
  if (c < kFirst) return false;
  return (utf8proc_category(code(c)) == UTF8PROC_CATEGORY_MN) != in(c, kOtherNonspacingMarks);
}

int combining_class(uint32_t c) {
  return in(c, kOtherNonspacingMarks) ? 0 : utf8proc_get_property(code(c))->combining_class;
}

void decompose(uint32_t c, std::vector<uint32_t>* out) {
  constexpr int kLongest = 16;
  utf8proc_int32_t parts[kLongest];
  int boundary = 0;
  const utf8proc_ssize_t count =
      utf8proc_decompose_char(code(c), parts, kLongest, UTF8PROC_DECOMPOSE, &boundary);
  if (count < 1 || count > kLongest) {
    out->push_back(c);
    return;
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i) out->push_back(static_cast<uint32_t>(parts[i]));
}

void to_lower(uint32_t c, std::vector<uint32_t>* out) {
  constexpr uint32_t kCapitalIWithDot = 0x130, kDotAbove = 0x307;
  if (c == kCapitalIWithDot) {  // the one code point whose lower case is two
    out->insert(out->end(), {'i', kDotAbove});
    return;
  }
  out->push_back(static_cast<uint32_t>(utf8proc_tolower(code(c))));
}

uint32_t next_code_point(std::string_view text, size_t* at) {
  utf8proc_int32_t c = 0;
  const utf8proc_ssize_t size =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + *at,
                       static_cast<utf8proc_ssize_t>(text.size() - *at), &c);
  *at += size > 0 ? static_cast<size_t>(size) : 1;
  return size > 0 ? static_cast<uint32_t>(c) : kReplacement;
}

void append_utf8(uint32_t c, std::string* out) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t size = utf8proc_encode_char(code(c), bytes);
  out->append(reinterpret_cast<const char*>(bytes),
              static_cast<size_t>(std::max<utf8proc_ssize_t>(size, 0)));
}

}  // namespace mpq::text
