// WordPiece by hand-made vocabularies. Equality with Hugging Face's tokenizers on real text is
// check_tokenizer.py's.
#include <doctest/doctest.h>

#include "text/tokenizer.h"

namespace mpq::text {
namespace {

using Ids = std::vector<int32_t>;

// [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, then the words from 5.
Tokenizer make(const std::string& words, format::TextPreprocess settings = {}) {
  settings.unknown = 1;
  settings.begin = 2;
  settings.separator = 3;
  settings.padding = 0;
  settings.mask = 4;
  auto tokenizer = Tokenizer::create(settings, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + words);
  REQUIRE(tokenizer.ok());
  return *std::move(tokenizer);
}

// The ids between the first and the last token.
Ids inner(const Encoding& e) {
  REQUIRE(e.ids.size() >= 2);
  CHECK(e.ids.front() == 2);
  CHECK(e.ids.back() == 3);
  CHECK(e.types.size() == e.ids.size());
  CHECK(e.places.size() == e.ids.size());
  CHECK(e.sources.size() == e.ids.size());
  return {e.ids.begin() + 1, e.ids.end() - 1};
}

Ids encode(const Tokenizer& tokenizer, std::string_view text) {
  return inner(tokenizer.encode(text, 1000));
}

}  // namespace

TEST_CASE("tokenizer: the longest piece first, from the left; a word that fails is unknown") {
  const Tokenizer t = make("un\nunder\n##der\n##stand\nstand\n##s\n");
  CHECK(encode(t, "understand") == Ids{6, 8});
  CHECK(encode(t, "undstand") == Ids{1});  // no part for "d"
  CHECK(encode(t, "stands stand") == Ids{9, 10, 9});
  CHECK(encode(t, "der") == Ids{1});  // only as a continuation
  CHECK(encode(t, "") == Ids{});
  CHECK(encode(t, " \t\r\n") == Ids{});
}

TEST_CASE("tokenizer: a word of more than 100 characters is unknown, however it begins") {
  const Tokenizer t = make("a\n##a\n");
  CHECK(encode(t, std::string(100, 'a')).size() == 100);
  CHECK(encode(t, std::string(101, 'a')) == Ids{1});
  std::string umlauts;  // characters count, not bytes
  for (int i = 0; i < 100; ++i) umlauts += "\xC3\xA4";
  CHECK(encode(t, umlauts).size() == 100);
}

TEST_CASE("tokenizer: punctuation stands alone, with places in the original bytes") {
  const Tokenizer t = make("hi\n!\nyou\n\xE2\x80\x94\n$\n");
  const std::string text = "Hi!\xE2\x80\x94you$";
  const Encoding e = t.encode(text, 1000);
  CHECK(inner(e) == Ids{5, 6, 8, 7, 9});
  const Span want[] = {{0, 2}, {2, 3}, {3, 6}, {6, 9}, {9, 10}};
  for (size_t i = 0; i < std::size(want); ++i) {
    CHECK(e.places[i + 1].begin == want[i].begin);
    CHECK(e.places[i + 1].end == want[i].end);
    CHECK(e.sources[i + 1] == 0);
  }
  CHECK(e.sources.front() == -1);
  CHECK(e.places.front().end == 0);
}

TEST_CASE("tokenizer: the four flags, each on its own") {
  const std::string words =
      "\xC3\xA4"
      "b\nab\nAB\n\xE4\xB8\xAD\n##b\n\xE4\xB8\xAD"
      "b\n";
  const std::string accented =
      "\xC3\xA4"
      "b";
  CHECK(encode(make(words), accented) == Ids{6});
  CHECK(encode(make(words, {.strip_accents = false}), accented) == Ids{5});
  CHECK(encode(make(words, {.lowercase = false}), "AB") == Ids{7});
  CHECK(encode(make(words), "AB") == Ids{6});
  CHECK(encode(make(words),
               "\xE4\xB8\xAD"
               "b") == Ids{8, 1});  // the ideograph stands alone
  CHECK(encode(make(words, {.split_chinese = false}),
               "\xE4\xB8\xAD"
               "b") == Ids{10});
  CHECK(encode(make(words),
               "a\x01"
               "b") == Ids{6});  // a control character goes
  CHECK(encode(make(words, {.clean_text = false}),
               "a\x01"
               "b") == Ids{1});
  // Combining marks go after decomposition, in whatever order they stand.
  CHECK(encode(make(words),
               "a\xCC\x88\xCC\xA3"
               "b") == Ids{6});
}

TEST_CASE("tokenizer: special tokens in a text are themselves, and never split") {
  const Tokenizer t = make("a\n[\n]\nmask\n");
  CHECK(encode(t, "a[MASK]a") == Ids{5, 4, 5});
  CHECK(encode(t, "[mask]") == Ids{6, 8, 7});  // not in this spelling
  CHECK(encode(t, "[SEP][CLS][UNK][PAD]") == Ids{3, 2, 1, 0});
}

TEST_CASE("tokenizer: texts are cut at the limit, of two the longer one first") {
  const Tokenizer t = make("a\nb\n");
  const Encoding one = t.encode("a a a a a", 4);
  CHECK(one.ids == Ids{2, 5, 5, 3});
  CHECK(one.cut == 3);
  CHECK(t.encode("a", 0).ids == Ids{2, 3});

  const Encoding pair = t.encode("a a a a a", "b b", 8);  // room for 5
  CHECK(pair.ids == Ids{2, 5, 5, 5, 3, 6, 6, 3});
  CHECK(pair.types == Ids{0, 0, 0, 0, 0, 1, 1, 1});
  CHECK(pair.cut == 2);
  CHECK(t.encode("a a", "b b b b b", 8).ids == Ids{2, 5, 5, 3, 6, 6, 6, 3});
  CHECK(t.encode("a a a a", "b b b b b b", 8).ids == Ids{2, 5, 5, 3, 6, 6, 6, 3});
  CHECK(t.encode("a", "b", 100).cut == 0);
  const Encoding two = make("a\nb\n", {.pair_separators = 2}).encode("a", "b", 100);
  CHECK(two.ids == Ids{2, 5, 3, 3, 6, 3});
}

TEST_CASE("tokenizer: bytes that are no UTF-8 are replacement characters") {
  const Tokenizer t = make("a\n\xEF\xBF\xBD\n##a\n");
  CHECK(encode(t, "a\xFF\xC3") == Ids{5});  // cleaned away
  CHECK(encode(make("a\n\xEF\xBF\xBD\n##a\n", {.clean_text = false}),
               "\xFF"
               "a") == Ids{6, 7});
}

TEST_CASE("tokenizer: vocabularies that cannot be are refused by name and number") {
  const auto refused = [](format::TextPreprocess settings, const std::string& vocabulary,
                          const std::string& what) {
    const auto tokenizer = Tokenizer::create(settings, vocabulary);
    REQUIRE(!tokenizer.ok());
    CHECK_MESSAGE(tokenizer.error().message.find(what) != std::string::npos,
                  tokenizer.error().message);
  };
  refused({.separator = 2}, "a\nb\n", "special token 2, the vocabulary has 2 tokens");
  refused({}, "a\nb\na\n", "token 'a' has the ids 0 and 2");
  refused({}, "", "special token 0");
  refused({.unknown = format::kNoToken}, "a\n", "needed");
  CHECK(Tokenizer::create({.padding = format::kNoToken, .mask = format::kNoToken}, "a\n").ok());
}

}  // namespace mpq::text
