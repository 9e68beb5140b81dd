#include "text/tokenizer.h"

#include <algorithm>
#include <limits>

#include "text/characters.h"

namespace mpq::text {
namespace {

constexpr size_t kLongestWord = 100;  // characters; longer ones are unknown
constexpr std::string_view kContinuing = "##";

// How many tokens of each text stay: the longer one is cut first, down to the shorter one's length.
std::pair<size_t, size_t> fit(size_t a, size_t b, size_t room) {
  if (a + b <= room) return {a, b};
  size_t &small = a <= b ? a : b, &large = a <= b ? b : a;
  large = small > room ? small : std::max(small, room - small);
  if (small + large > room) {
    small = room / 2;
    large = small + room % 2;
  }
  return {a, b};
}

}  // namespace

Result<Tokenizer> Tokenizer::create(const format::TextPreprocess& settings,
                                    std::string_view vocabulary) {
  Tokenizer tokenizer;
  tokenizer.settings_ = settings;
  for (std::string_view rest = vocabulary; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const auto id = static_cast<int32_t>(tokenizer.tokens_.size());
    tokenizer.tokens_.emplace_back(rest.substr(0, end));
    if (!tokenizer.ids_.emplace(tokenizer.tokens_.back(), id).second)
      return Error{Status::kCorrupt, "vocabulary: token '" + tokenizer.tokens_.back() +
                                         "' has the ids " +
                                         std::to_string(tokenizer.ids_[tokenizer.tokens_.back()]) +
                                         " and " + std::to_string(id)};
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  const size_t count = tokenizer.tokens_.size();
  for (const uint32_t id :
       {settings.unknown, settings.begin, settings.separator, settings.padding, settings.mask}) {
    if (id < count) {
      tokenizer.specials_.push_back({tokenizer.tokens_[id], static_cast<int32_t>(id)});
    } else if (id != format::kNoToken) {
      return Error{Status::kCorrupt, "special token " + std::to_string(id) +
                                         ", the vocabulary has " + std::to_string(count) +
                                         " tokens"};
    }
  }
  if (std::max({settings.unknown, settings.begin, settings.separator}) >= count)
    return Error{Status::kCorrupt, "the tokens for unknown words, begin and separator are needed"};
  // Where one begins like another, the longer one is meant.
  std::stable_sort(
      tokenizer.specials_.begin(), tokenizer.specials_.end(),
      [](const Special& a, const Special& b) { return a.token.size() > b.token.size(); });
  return tokenizer;
}

int32_t Tokenizer::find(const std::string& token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? -1 : found->second;
}

// The longest token that the rest begins with, again and again.
void Tokenizer::word(const std::vector<Character>& characters, size_t begin, size_t end,
                     std::vector<Piece>* pieces) const {
  const auto place = [&](size_t from, size_t to) {
    return Span{characters[from].place.begin, characters[to - 1].place.end};
  };
  const auto unknown = Piece{static_cast<int32_t>(settings_.unknown), place(begin, end)};
  if (end - begin > kLongestWord) {
    pieces->push_back(unknown);
    return;
  }
  const size_t before = pieces->size();
  std::string candidate;
  std::vector<size_t> sizes;  // of the candidate, after each character
  for (size_t from = begin; from < end;) {
    candidate.assign(from == begin ? "" : kContinuing);
    sizes.clear();
    for (size_t i = from; i < end; ++i) {
      append_utf8(characters[i].code, &candidate);
      sizes.push_back(candidate.size());
    }
    int32_t id = -1;
    size_t count = sizes.size();
    for (; count > 0 && id < 0; --count) {
      candidate.resize(sizes[count - 1]);
      id = find(candidate);
      if (id >= 0) break;
    }
    if (id < 0) {
      pieces->resize(before);
      pieces->push_back(unknown);
      return;
    }
    pieces->push_back({id, place(from, from + count)});
    from += count;
  }
}

// Words are what lies between spaces; a punctuation mark is a word.
void Tokenizer::words(std::string_view text, Span span, std::vector<Piece>* pieces) const {
  const std::vector<Character> characters = normalise(text, span, settings_);
  size_t begin = 0;
  for (size_t i = 0; i <= characters.size(); ++i) {
    const bool end = i == characters.size();
    const bool mark = !end && is_punctuation(characters[i].code);
    if (!end && !mark && !is_space(characters[i].code)) continue;
    if (begin < i) word(characters, begin, i, pieces);
    if (mark) word(characters, i, i + 1, pieces);
    begin = i + 1;
  }
}

std::vector<Tokenizer::Piece> Tokenizer::pieces(std::string_view text) const {
  constexpr size_t kLongest = std::numeric_limits<uint32_t>::max();
  text = text.substr(0, kLongest);
  std::vector<Piece> pieces;
  size_t begin = 0;
  const auto flush = [&](size_t end) {
    if (begin < end)
      words(text, {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)}, &pieces);
  };
  for (size_t at = 0; at < text.size();) {
    const auto special = std::find_if(specials_.begin(), specials_.end(), [&](const Special& s) {
      return text.substr(at).starts_with(s.token);
    });
    if (special == specials_.end()) {
      ++at;
      continue;
    }
    flush(at);
    begin = at + special->token.size();
    pieces.push_back({special->id, {static_cast<uint32_t>(at), static_cast<uint32_t>(begin)}});
    at = begin;
  }
  flush(text.size());
  return pieces;
}

Encoding Tokenizer::encode(std::string_view text, size_t max_tokens) const {
  const std::vector<Piece> all = pieces(text);
  constexpr size_t kSpecials = 2;
  const size_t kept = std::min(all.size(), std::max(max_tokens, kSpecials) - kSpecials);
  Encoding encoding;
  const auto add = [&](int32_t id, Span place, int8_t source) {
    encoding.ids.push_back(id);
    encoding.types.push_back(0);
    encoding.places.push_back(place);
    encoding.sources.push_back(source);
  };
  add(static_cast<int32_t>(settings_.begin), {}, -1);
  for (size_t i = 0; i < kept; ++i) add(all[i].id, all[i].place, 0);
  add(static_cast<int32_t>(settings_.separator), {}, -1);
  encoding.cut = all.size() - kept;
  return encoding;
}

Encoding Tokenizer::encode(std::string_view text, std::string_view pair, size_t max_tokens) const {
  const std::vector<Piece> parts[] = {pieces(text), pieces(pair)};
  const size_t specials = 2 + settings_.pair_separators;
  const auto [first, second] =
      fit(parts[0].size(), parts[1].size(), std::max(max_tokens, specials) - specials);
  Encoding encoding;
  const auto add = [&](int32_t id, Span place, int8_t source, int32_t type) {
    encoding.ids.push_back(id);
    encoding.types.push_back(type);
    encoding.places.push_back(place);
    encoding.sources.push_back(source);
  };
  const auto separator = static_cast<int32_t>(settings_.separator);
  add(static_cast<int32_t>(settings_.begin), {}, -1, 0);
  for (size_t i = 0; i < first; ++i) add(parts[0][i].id, parts[0][i].place, 0, 0);
  for (uint32_t i = 0; i < settings_.pair_separators; ++i) add(separator, {}, -1, 0);
  for (size_t i = 0; i < second; ++i) add(parts[1][i].id, parts[1][i].place, 1, 1);
  add(separator, {}, -1, 1);
  encoding.cut = parts[0].size() + parts[1].size() - first - second;
  return encoding;
}

}  // namespace mpq::text
