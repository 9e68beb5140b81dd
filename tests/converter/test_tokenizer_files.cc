// Tokenisers of Hugging Face folders: settings, and files that are refused.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "converter/transformer/tokenizer_files.h"
#include "tests/support/temp_folder.h"
#include "text/tokenizer.h"

namespace mpq::convert::transformer {
namespace {

using Json = nlohmann::json;
using tests::TempFolder;

const char* const kVocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n##s\n";

// The same vocabulary as the tokenizers library writes it.
Json bert_json() {
  return Json::parse(R"({
    "version": "1.0",
    "added_tokens": [
      {"id": 0, "content": "[PAD]", "special": true}, {"id": 1, "content": "[UNK]", "special": true},
      {"id": 2, "content": "[CLS]", "special": true}, {"id": 3, "content": "[SEP]", "special": true},
      {"id": 4, "content": "[MASK]", "special": true}],
    "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
      "strip_accents": null, "lowercase": true},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
      "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
      "max_input_chars_per_word": 100,
      "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "the": 5, "##s": 6}}})");
}

Result<TokenizerFiles> read_json(const Json& json) {
  const TempFolder folder;
  folder.write("tokenizer.json", json.dump());
  return read_tokenizer(folder.path.string());
}

Result<TokenizerFiles> read_vocabulary(const std::string& text, const std::string& config = "") {
  const TempFolder folder;
  folder.write("vocab.txt", text);
  if (!config.empty()) folder.write("tokenizer_config.json", config);
  return read_tokenizer(folder.path.string());
}

std::string message_of(const Result<TokenizerFiles>& files) {
  return files.ok() ? "" : files.error().message;
}

bool mentions(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
  return false;
}

}  // namespace

TEST_CASE("tokenizer files: vocab.txt and tokenizer.json of one tokeniser say the same") {
  const auto json = read_json(bert_json()), text = read_vocabulary(kVocabulary);
  for (const auto* files : {&json, &text}) {
    REQUIRE_MESSAGE(files->ok(), message_of(*files));
    const format::TextPreprocess& s = (*files)->settings;
    CHECK((*files)->vocabulary == kVocabulary);
    CHECK(s.padding == 0);
    CHECK(s.unknown == 1);
    CHECK(s.begin == 2);
    CHECK(s.separator == 3);
    CHECK(s.mask == 4);
    CHECK(s.pair_separators == 1);
    CHECK((s.clean_text && s.split_chinese && s.lowercase && s.strip_accents));
    CHECK(text::Tokenizer::create(s, (*files)->vocabulary).ok());
  }
}

TEST_CASE("tokenizer files: settings beside vocab.txt") {
  const auto cased = read_vocabulary(kVocabulary, R"({"do_lower_case": false,
      "tokenize_chinese_chars": false, "unk_token": {"content": "the"}, "pad_token": "none"})");
  REQUIRE_MESSAGE(cased.ok(), message_of(cased));
  CHECK(!cased->settings.lowercase);
  CHECK(!cased->settings.strip_accents);  // follows the case unless it is said
  CHECK(!cased->settings.split_chinese);
  CHECK(cased->settings.unknown == 5);
  CHECK(cased->settings.padding == format::kNoToken);
  const auto accents = read_vocabulary(kVocabulary, R"({"strip_accents": false})");
  REQUIRE(accents.ok());
  CHECK(accents->settings.lowercase);
  CHECK(!accents->settings.strip_accents);

  const auto mpnet = read_vocabulary("<s>\r\n<pad>\r\n</s>\r\n[UNK]\r\nthe\r\n<mask>",
                                     R"({"tokenizer_class": "MPNetTokenizer"})");
  REQUIRE_MESSAGE(mpnet.ok(), message_of(mpnet));
  CHECK(mpnet->vocabulary == "<s>\n<pad>\n</s>\n[UNK]\nthe\n<mask>\n");
  CHECK(mpnet->settings.begin == 0);
  CHECK(mpnet->settings.padding == 1);
  CHECK(mpnet->settings.separator == 2);
  CHECK(mpnet->settings.mask == 5);
  CHECK(mpnet->settings.pair_separators == 2);
}

TEST_CASE("tokenizer files: forms of tokenizer.json") {
  for (const auto& [type, separators] :
       {std::pair{"BertProcessing", 1U}, {"RobertaProcessing", 2U}}) {
    Json json = bert_json();
    json["post_processor"] = {{"type", type}, {"cls", {"[CLS]", 2}}, {"sep", {"[SEP]", 3}}};
    const auto files = read_json(json);
    REQUIRE_MESSAGE(files.ok(), message_of(files));
    CHECK(files->settings.begin == 2);
    CHECK(files->settings.separator == 3);
    CHECK(files->settings.pair_separators == separators);
  }
  Json json = bert_json();
  json["normalizer"]["lowercase"] = false;
  json["normalizer"]["strip_accents"] = true;
  json["model"].erase("type");  // as old versions write it
  json["model"]["vocab"]["far"] = 9;
  json["added_tokens"].erase(4);
  json["post_processor"]["pair"].insert(json["post_processor"]["pair"].begin() + 2,
                                        json["post_processor"]["single"][2]);
  const auto files = read_json(json);
  REQUIRE_MESSAGE(files.ok(), message_of(files));
  CHECK(!files->settings.lowercase);
  CHECK(files->settings.strip_accents);
  CHECK(files->settings.mask == format::kNoToken);  // a plain word
  CHECK(files->settings.pair_separators == 2);
  CHECK(files->vocabulary == std::string(kVocabulary) + "[no token 7]\n[no token 8]\nfar\n");
}

TEST_CASE("tokenizer files: a vocab.txt that cannot be is refused by name and number") {
  CHECK(mentions(message_of(read_vocabulary("")), "vocab.txt: the vocabulary is empty"));
  CHECK(mentions(message_of(read_vocabulary("[UNK]\n[SEP]\na\n")),
                 "vocab.txt: special token '[CLS]' is not in the vocabulary"));
  CHECK(mentions(message_of(read_vocabulary("[CLS]\n[SEP]\na\n")), "special token '[UNK]'"));
  CHECK(mentions(message_of(read_vocabulary(kVocabulary, R"({"sep_token": "</s>"})")),
                 "special token '</s>'"));
  CHECK(mentions(message_of(read_vocabulary(kVocabulary, "{")),
                 "tokenizer_config.json: no valid JSON"));
  CHECK(mentions(message_of(read_vocabulary(std::string(kVocabulary) + "\xFF\xFEword\n")),
                 "vocab.txt: token 7 is no clean UTF-8"));
  CHECK(mentions(message_of(read_vocabulary(std::string(kVocabulary) + "a\x07"
                                                                       "b\n")),
                 "vocab.txt: token 7 is no clean UTF-8"));
  std::string many = kVocabulary;
  for (size_t i = 7; i <= (size_t{1} << 20); ++i) many += "x\n";
  CHECK(
      mentions(message_of(read_vocabulary(many)), "vocab.txt: token id 1048576, at most 1048575"));
  const TempFolder empty;
  CHECK(mentions(message_of(read_tokenizer(empty.path.string())), "vocab.txt: No such file"));

  // Which of two ids a token has is for the tokeniser to refuse.
  const auto twice = read_vocabulary(std::string(kVocabulary) + "the\n");
  REQUIRE(twice.ok());
  const auto tokenizer = text::Tokenizer::create(twice->settings, twice->vocabulary);
  REQUIRE(!tokenizer.ok());
  CHECK(mentions(tokenizer.error().message, "token 'the' has the ids 5 and 7"));
}

TEST_CASE("tokenizer files: a tokenizer.json that cannot be is refused by field and value") {
  const struct {
    const char* patch;
    const char* message;
  } kCases[] = {
      {R"({"model": {"type": "BPE"}})", "model \"BPE\" is not supported; only WordPiece is"},
      {R"({"model": null})", "model null is not supported"},
      {R"({"model": {"continuing_subword_prefix": "_"}})",
       "continuing_subword_prefix \"_\" is not"},
      {R"({"model": {"max_input_chars_per_word": 50}})", "max_input_chars_per_word 50 is not"},
      {R"({"model": {"unk_token": "<unk>"}})", "special token '<unk>' is not in the vocabulary"},
      {R"({"model": {"vocab": null}, "added_tokens": null})", "the vocabulary is empty"},
      {R"({"model": {"vocab": {"the": "5"}}})", "vocabulary: 'the' has the id \"5\""},
      {R"({"model": {"vocab": {"the": -5}}})", "vocabulary: 'the' has the id -5"},
      {R"({"model": {"vocab": {"a": 5}}})", "vocabulary: id 5 is both 'a' and 'the'"},
      {R"({"model": {"vocab": {"a": 1048576}}})", "token id 1048576, at most 1048575"},
      {R"({"model": {"vocab": {"a": 18446744073709551615}}})", "token id 18446744073709551615, at"},
      {R"({"model": {"vocab": {"a\nb": 7}}})", "token 7 has a line feed"},
      {R"({"model": {"vocab": {"a\u0007b": 7}}})", "token 7 is no clean UTF-8"},
      {R"({"model": {"vocab": ["the"]}, "added_tokens": null})", "'0' has the id \"the\""},
      {R"({"added_tokens": [{"id": 5}]})", "added_tokens: a token without content"},
      {R"({"added_tokens": [{"content": "x"}]})", "vocabulary: 'x' has the id null"},
      {R"({"added_tokens": 5})", "added_tokens: a token without content"},
      {R"({"added_tokens": [{"id": 7, "content": "<url>"}]})",
       "added_tokens \"<url>\" is not supported; train the vocabulary with that token in it"},
      {R"({"normalizer": {"type": "Sequence"}})", "normalizer \"Sequence\" is not supported"},
      {R"({"normalizer": null})", "normalizer null is not supported"},
      {R"({"pre_tokenizer": {"type": "Whitespace"}})", "pre_tokenizer \"Whitespace\" is not"},
      {R"({"post_processor": {"type": "ByteLevel"}})", "post_processor \"ByteLevel\" is not"},
      {R"({"post_processor": null})", "post_processor null is not supported"},
      {R"({"post_processor": {"type": "BertProcessing"}})", "post_processor: no cls and sep"},
      {R"({"post_processor": {"type": "BertProcessing", "cls": ["<s>", 0], "sep": ["[SEP]", 3]}})",
       "special token '<s>' is not in the vocabulary"},
      {R"({"post_processor": {"single": 3}})", "only begin A separator... B separator is"},
      {R"({"post_processor": {"pair": [{"Sequence": {"id": "A"}}, {"Sequence": {"id": "B"}}]}})",
       "only begin A separator... B separator is"},
  };
  for (const auto& c : kCases) {
    CAPTURE(c.patch);
    Json json = bert_json();
    json.merge_patch(Json::parse(c.patch));
    const std::string message = message_of(read_json(json));
    CHECK(mentions(message, "tokenizer.json: "));
    CHECK(mentions(message, c.message));
  }
}

TEST_CASE("tokenizer files: every truncation is refused, a changed byte never crashes") {
  const std::string whole = bert_json().dump();
  const TempFolder folder;
  const std::string at = folder.path.string();
  size_t accepted = 0;
  for (size_t n = 0; n < whole.size(); ++n) {
    folder.write("tokenizer.json", whole.substr(0, n));
    accepted += read_tokenizer(at).ok() ? 1 : 0;
  }
  CHECK(accepted == 0);
  for (size_t n = 0; n < whole.size(); ++n) {
    std::string changed = whole;
    changed[n] = "0\"[{,9"[n % 6];
    folder.write("tokenizer.json", changed);
    const auto files = read_tokenizer(at);
    if (files.ok()) CHECK(files->vocabulary.ends_with('\n'));
  }
}

}  // namespace mpq::convert::transformer
