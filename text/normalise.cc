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

// Canonical order: runs of combining characters by class, stable.
void order_marks(std::vector<Character>* characters) {
  const auto is_mark = [](const Character& c) { return combining_class(c.code) != 0; };
  for (auto at = characters->begin(); at != characters->end();) {
    at = std::find_if(at, characters->end(), is_mark);
    const auto end = std::find_if_not(at, characters->end(), is_mark);
    std::stable_sort(at, end, [](const Character& a, const Character& b) {
      return combining_class(a.code) < combining_class(b.code);
    });
    at = end;
  }
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
  if (settings.strip_accents) {
    replace_each(&characters, decompose);
    order_marks(&characters);
    std::erase_if(characters, [](const Character& c) { return is_nonspacing_mark(c.code); });
  }
  if (settings.lowercase) replace_each(&characters, to_lower);
  return characters;
}

}  // namespace mpq::text
