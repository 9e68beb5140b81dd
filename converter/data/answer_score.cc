// SQuAD's exact match and F1.
#include <algorithm>
#include <vector>

#include "converter/data/text_metrics.h"

namespace mpq::data {

namespace {

// The code points of UTF-8; a byte that begins none counts by itself, above all others.
std::u32string decode(std::string_view text) {
  std::u32string points;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t point = size == 1 ? lead : lead & (0x7FU >> size);
    bool valid = lead < 0x80 || (lead >= 0xC2 && lead < 0xF5 && text.size() - i >= size);
    for (size_t k = 1; valid && k < size; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      valid = (next & 0xC0) == 0x80;
      point = point << 6 | (next & 0x3FU);
    }
    constexpr char32_t kNoPoint = 0x110000;
    points += valid ? point : kNoPoint + lead;
    i += valid ? size : 1;
  }
  return points;
}

void append(char32_t point, std::string* text) {
  constexpr char32_t kNoPoint = 0x110000;
  const auto put = [text](char32_t byte) { *text += static_cast<char>(byte); };
  const auto follow = [&put, point](int shift) { put(0x80 | (point >> shift & 0x3F)); };
  if (point >= kNoPoint) {
    put(point - kNoPoint);
  } else if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xC0 | point >> 6), follow(0);
  } else if (point < 0x10000) {
    put(0xE0 | point >> 12), follow(6), follow(0);
  } else {
    put(0xF0 | point >> 18), follow(12), follow(6), follow(0);
  }
}

// Upper-case letters from first to last, `step` apart, have their lower case `distance` further on.
struct UpperCase {
  char32_t first, last, step;
  int distance;
};
constexpr UpperCase kUpperCase[] = {
    {U'A', U'Z', 1, 32},        {0xC0, 0xD6, 1, 32},     {0xD8, 0xDE, 1, 32},
    {0x100, 0x12E, 2, 1},       {0x132, 0x136, 2, 1},    {0x139, 0x147, 2, 1},
    {0x14A, 0x176, 2, 1},       {0x178, 0x178, 1, -121}, {0x179, 0x17D, 2, 1},
    {0x386, 0x386, 1, 38},      {0x388, 0x38A, 1, 37},   {0x38C, 0x38C, 1, 64},
    {0x38E, 0x38F, 1, 63},      {0x391, 0x3A1, 1, 32},   {0x3A3, 0x3AB, 1, 32},
    {0x3CF, 0x3CF, 1, 8},       {0x400, 0x40F, 1, 80},   {0x410, 0x42F, 1, 32},
    {0x460, 0x480, 2, 1},       {0x48A, 0x4BE, 2, 1},    {0x4C0, 0x4C0, 1, 15},
    {0x4C1, 0x4CD, 2, 1},       {0x4D0, 0x52E, 2, 1},    {0x1E00, 0x1E94, 2, 1},
    {0x1E9E, 0x1E9E, 1, -7615}, {0x1EA0, 0x1EFE, 2, 1},
};

char32_t lower(char32_t point) {
  for (const UpperCase& range : kUpperCase)
    if (point >= range.first && point <= range.last && (point - range.first) % range.step == 0)
      return static_cast<char32_t>(static_cast<int>(point) + range.distance);
  return point;
}

struct Range {
  char32_t first, last;
};
template <size_t kCount>
bool in(const Range (&ranges)[kCount], char32_t point) {
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [point](const Range& r) { return point >= r.first && point <= r.last; });
}

// string.punctuation of Python.
constexpr Range kPunctuation[] = {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}};
// What str.split of Python splits at.
constexpr Range kSpaces[] = {{9, 13},          {28, 32},         {0x85, 0x85},     {0xA0, 0xA0},
                             {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                             {0x205F, 0x205F}, {0x3000, 0x3000}};
// Signs beyond ASCII where an article ends as at a space.
constexpr Range kSigns[] = {{0x80, 0xA9},     {0xAB, 0xB1},     {0xB4, 0xB4},     {0xB6, 0xB8},
                            {0xBB, 0xBB},     {0xBF, 0xBF},     {0xD7, 0xD7},     {0xF7, 0xF7},
                            {0x482, 0x489},   {0x2000, 0x206F}, {0x20A0, 0x20CF}, {0x2122, 0x2122},
                            {0x2190, 0x23FF}, {0x25A0, 0x26FF}, {0x3001, 0x3004}, {0x3008, 0x3020}};

// A letter or a digit, of a text without capitals and punctuation.
bool in_word(char32_t point) {
  if (point < 0x80) return (point >= '0' && point <= '9') || (point >= 'a' && point <= 'z');
  return !in(kSpaces, point) && !in(kSigns, point);
}

bool is_article(std::u32string_view word) {
  return word == U"a" || word == U"an" || word == U"the";
}

using Words = std::vector<std::string>;

// A word between spaces may hold several runs of letters ("the–end"): articles go run by run.
Words words_of(std::string_view text) {
  std::u32string points;
  for (const char32_t point : decode(text))
    if (!in(kPunctuation, point)) points += lower(point);
  Words words;
  bool open = false;  // the last word goes on
  for (size_t begin = 0, end = 0; begin < points.size(); begin = end) {
    end = begin + 1;
    if (in_word(points[begin]))
      while (end < points.size() && in_word(points[end])) ++end;
    const std::u32string_view run = std::u32string_view(points).substr(begin, end - begin);
    if (in(kSpaces, run.front()) || is_article(run)) {  // an article becomes a space
      open = false;
      continue;
    }
    if (!open) words.emplace_back();
    open = true;
    for (const char32_t point : run) append(point, &words.back());
  }
  return words;
}

AnswerScore compare(Words predicted, Words expected) {
  AnswerScore score{.exact = predicted == expected ? 1.0 : 0.0};
  if (predicted.empty() || expected.empty()) {
    score.f1 = score.exact;
    return score;
  }
  std::sort(predicted.begin(), predicted.end());
  std::sort(expected.begin(), expected.end());
  Words common;
  std::set_intersection(predicted.begin(), predicted.end(), expected.begin(), expected.end(),
                        std::back_inserter(common));
  if (common.empty()) return score;
  const auto same = static_cast<double>(common.size());
  const double precision = same / static_cast<double>(predicted.size());
  const double recall = same / static_cast<double>(expected.size());
  score.f1 = 2 * precision * recall / (precision + recall);
  return score;
}

}  // namespace

std::string normalise_answer(std::string_view text) {
  std::string joined;
  for (const std::string& word : words_of(text)) joined += (joined.empty() ? "" : " ") + word;
  return joined;
}

AnswerScore score_answer(std::string_view prediction, std::span<const std::string> answers) {
  const Words predicted = words_of(prediction);
  std::vector<Words> expected;
  for (const std::string& answer : answers)
    if (Words words = words_of(answer); !words.empty()) expected.push_back(std::move(words));
  if (expected.empty()) expected.emplace_back();
  AnswerScore best;
  for (const Words& words : expected) {
    const AnswerScore score = compare(predicted, words);
    best = {.exact = std::max(best.exact, score.exact), .f1 = std::max(best.f1, score.f1)};
  }
  return best;
}

}  // namespace mpq::data
