#include "text/normalise.h"

#include <algorithm>

#include "text/characters.h"

namespace mpq::text {
namespace {

// Each character replaced by those that `replace` appends, all at its place.
template <typename Replace>
void replace_each(std::vector<Character>* characters, Replace replace) {
  std::vector<Character> result;
  std::vector<uint32_t> codes;
  for (const Character& c : *characters) {
    codes.clear();
    replace(c.code, &codes);
    for (const uint32_t code : codes) result.push_back({code, c.place});
  }
  *characters = std::move(result);
}

// NFD without nonspacing marks. Combining characters are put into canonical order, by class; their
// places stay in the order of the text: a character that decomposition added is where the one
// before it is.
void strip_accents(std::vector<Character>* characters) {
  struct Part {
    uint32_t code;
    bool added;
  };
  std::vector<Part> parts;
  std::vector<uint32_t> codes;
  for (const Character& c : *characters) {
    codes.clear();
    decompose(c.code, &codes);
    for (size_t i = 0; i < codes.size(); ++i) parts.push_back({codes[i], i > 0});
  }
  const auto is_mark = [](const Part& part) { return combining_class(part.code) != 0; };
  for (auto at = parts.begin(); at != parts.end();) {
    at = std::find_if(at, parts.end(), is_mark);
    const auto end = std::find_if_not(at, parts.end(), is_mark);
    std::stable_sort(at, end, [](const Part& a, const Part& b) {
      return combining_class(a.code) < combining_class(b.code);
    });
    at = end;
  }
  std::vector<Character> result;
  size_t taken = 0;
  for (const Part& part : parts) {
    taken += part.added ? 0 : 1;
    if (!is_nonspacing_mark(part.code))
      result.push_back({part.code, (*characters)[taken == 0 ? 0 : taken - 1].place});
  }
  *characters = std::move(result);
}

void clean(uint32_t c, std::vector<uint32_t>* out) {
  if (c == 0 || c == kReplacement || is_control(c)) return;
  out->push_back(is_space(c) ? ' ' : c);
}

void set_apart(uint32_t c, std::vector<uint32_t>* out) {
  if (is_ideograph(c))
    out->insert(out->end(), {' ', c, ' '});
  else
    out->push_back(c);
}

}  // namespace

std::vector<Character> normalise(std::string_view text, Span span,
                                 const format::TextPreprocess& settings) {
  std::vector<Character> characters;
  const std::string_view all = text.substr(0, span.end);
  for (size_t at = span.begin; at < all.size();) {
    const auto begin = static_cast<uint32_t>(at);
    const uint32_t code = next_code_point(all, &at);
    characters.push_back({code, {begin, static_cast<uint32_t>(at)}});
  }
  if (settings.clean_text) replace_each(&characters, clean);
  if (settings.split_chinese) replace_each(&characters, set_apart);
  if (settings.strip_accents) strip_accents(&characters);
  if (settings.lowercase) replace_each(&characters, to_lower);
  return characters;
}

}  // namespace mpq::text
