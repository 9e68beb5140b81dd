#include "converter/transformer/tokenizer_files.h"

#include <filesystem>
#include <map>
#include <vector>

#include "converter/data/json.h"
#include "format/text.h"

namespace mpq::convert::transformer {
namespace {

using data::Json;
using data::member;
using data::shown;

constexpr uint64_t kMaxBytes = uint64_t{64} << 20;
constexpr size_t kMaxTokens = size_t{1} << 20;

Error unsupported(const std::string& field, const Json& value, const std::string& remedy) {
  return {Status::kUnsupported, field + " " + shown(value) + " is not supported; " + remedy};
}

// Tokens by id; what the vocabulary leaves out gets a name that no text contains.
Result<std::string> vocabulary_of(const std::map<size_t, std::string>& tokens) {
  if (tokens.empty()) return Error{Status::kCorrupt, "the vocabulary is empty"};
  const size_t last = tokens.rbegin()->first;
  if (last >= kMaxTokens)
    return Error{Status::kLimit, "token id " + std::to_string(last) + ", at most " +
                                     std::to_string(kMaxTokens - 1)};
  std::string text;
  auto next = tokens.begin();
  for (size_t id = 0; id <= last; ++id) {
    const bool known = next->first == id;
    const std::string token = known ? next->second : "[no token " + std::to_string(id) + "]";
    if (token.find('\n') != std::string::npos)
      return Error{Status::kUnsupported, "token " + std::to_string(id) + " has a line feed"};
    if (!format::is_clean_text(token, true))  // as the format wants it: no control characters
      return Error{Status::kUnsupported, "token " + std::to_string(id) + " is no clean UTF-8"};
    text += token + "\n";
    if (known) ++next;
  }
  return text;
}

using Ids = std::map<std::string, size_t>;

Result<uint32_t> id_of(const Ids& ids, const std::string& token) {
  const auto found = ids.find(token);
  if (found == ids.end())
    return Error{Status::kCorrupt, "special token '" + token + "' is not in the vocabulary"};
  return static_cast<uint32_t>(found->second);
}
uint32_t id_or_none(const Ids& ids, const std::string& token) {
  const auto found = ids.find(token);
  return found == ids.end() ? format::kNoToken : static_cast<uint32_t>(found->second);
}

bool flag(const Json& object, const char* key, bool otherwise) {
  const Json& value = member(object, key);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

Checked read_normalizer(const Json& normalizer, format::TextPreprocess* settings) {
  if (member(normalizer, "type") != "BertNormalizer")
    return unsupported("normalizer", member(normalizer, "type"), "only BertNormalizer is");
  settings->clean_text = flag(normalizer, "clean_text", true);
  settings->split_chinese = flag(normalizer, "handle_chinese_chars", true);
  settings->lowercase = flag(normalizer, "lowercase", true);
  settings->strip_accents = flag(normalizer, "strip_accents", settings->lowercase);
  return Ok{};
}

// {"single": [special, A, special], "pair": [...]} of a TemplateProcessing, or {"cls": ["[CLS]",
// 101], "sep": [...]} of BertProcessing and RobertaProcessing.
Checked read_post_processor(const Json& processor, const Ids& ids,
                            format::TextPreprocess* settings) {
  const Json& type = member(processor, "type");
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    const Json &cls = member(processor, "cls"), &sep = member(processor, "sep");
    if (!cls.is_array() || cls.empty() || !cls[0].is_string() || !sep.is_array() || sep.empty() ||
        !sep[0].is_string())
      return Error{Status::kCorrupt, "post_processor: no cls and sep"};
    MPQ_TRY(settings->begin, id_of(ids, cls[0].get<std::string>()));
    MPQ_TRY(settings->separator, id_of(ids, sep[0].get<std::string>()));
    settings->pair_separators = type == "BertProcessing" ? 1 : 2;
    return Ok{};
  }
  if (type != "TemplateProcessing")
    return unsupported("post_processor", type, "only BERT's and MPNet's are");
  const auto pattern_of = [&](const char* key) {
    std::vector<std::string> pattern;  // "$A" for texts
    for (const Json& part : member(processor, key)) {
      const Json& special = member(part, "SpecialToken");
      const Json& id = member(special.is_null() ? member(part, "Sequence") : special, "id");
      const std::string name = id.is_string() ? id.get<std::string>() : "";
      pattern.push_back(special.is_null() ? "$" + name : name);
    }
    return pattern;
  };
  const std::vector<std::string> single = pattern_of("single"), pair = pattern_of("pair");
  const bool plain = single.size() == 3 && single[1] == "$A" && pair.size() >= 5 &&
                     pair[0] == single[0] && pair[1] == "$A" && pair[pair.size() - 2] == "$B" &&
                     pair.back() == single[2];
  bool separated = plain;
  for (size_t i = 2; separated && i + 2 < pair.size(); ++i) separated = pair[i] == single[2];
  if (!separated)
    return unsupported("post_processor", member(processor, "pair"),
                       "only begin A separator... B separator is");
  MPQ_TRY(settings->begin, id_of(ids, single[0]));
  MPQ_TRY(settings->separator, id_of(ids, single[2]));
  settings->pair_separators = static_cast<uint32_t>(pair.size() - 4);
  return Ok{};
}

Result<TokenizerFiles> parse_tokenizer(const Json& json) {
  TokenizerFiles files;
  const Json& model = member(json, "model");
  if (member(model, "type") != "WordPiece" &&
      !(member(model, "type").is_null() && model.contains("continuing_subword_prefix")))
    return unsupported("model", member(model, "type"), "only WordPiece is");
  if (member(model, "continuing_subword_prefix") != "##")
    return unsupported("continuing_subword_prefix", member(model, "continuing_subword_prefix"),
                       "only ## is");
  if (member(model, "max_input_chars_per_word") != 100)
    return unsupported("max_input_chars_per_word", member(model, "max_input_chars_per_word"),
                       "only 100 is");
  if (member(member(json, "pre_tokenizer"), "type") != "BertPreTokenizer")
    return unsupported("pre_tokenizer", member(member(json, "pre_tokenizer"), "type"),
                       "only BertPreTokenizer is");
  MPQ_CHECK(read_normalizer(member(json, "normalizer"), &files.settings));

  Ids ids;
  std::map<size_t, std::string> tokens;
  const auto add = [&](const std::string& token, const Json& id) -> Checked {
    if (!id.is_number_unsigned())
      return Error{Status::kCorrupt, "vocabulary: '" + token + "' has the id " + shown(id)};
    const auto number = id.get<size_t>();
    const auto [entry, is_new] = tokens.emplace(number, token);
    if (!is_new && entry->second != token)
      return Error{Status::kCorrupt, "vocabulary: id " + std::to_string(number) + " is both '" +
                                         entry->second + "' and '" + token + "'"};
    ids[token] = number;
    return Ok{};
  };
  for (const auto& [token, id] : member(model, "vocab").items()) MPQ_CHECK(add(token, id));
  for (const Json& added : member(json, "added_tokens")) {
    const Json& content = member(added, "content");
    if (!content.is_string())
      return Error{Status::kCorrupt, "added_tokens: a token without content"};
    MPQ_CHECK(add(content.get<std::string>(), member(added, "id")));
  }
  MPQ_TRY(files.vocabulary, vocabulary_of(tokens));
  const Json& unknown = member(model, "unk_token");
  MPQ_TRY(files.settings.unknown,
          id_of(ids, unknown.is_string() ? unknown.get<std::string>() : "[UNK]"));
  MPQ_CHECK(read_post_processor(member(json, "post_processor"), ids, &files.settings));
  // Of the special tokens: a vocabulary may hold others' as plain words.
  const auto special_of = [&](std::initializer_list<const char*> names) {
    for (const Json& added : member(json, "added_tokens"))
      for (const char* name : names)
        if (member(added, "content") == name) return member(added, "id").get<uint32_t>();
    return format::kNoToken;
  };
  files.settings.padding = special_of({"[PAD]", "<pad>"});
  files.settings.mask = special_of({"[MASK]", "<mask>"});

  // Text must not contain tokens that are found before it is normalised and that the settings do
  // not have: only the special ones are looked for.
  for (const Json& added : member(json, "added_tokens")) {
    const auto id = member(added, "id").get<uint32_t>();
    const format::TextPreprocess& s = files.settings;
    const bool special =
        id == s.unknown || id == s.begin || id == s.separator || id == s.padding || id == s.mask;
    if (!special && !flag(added, "special", false))
      return unsupported("added_tokens", member(added, "content"),
                         "train the vocabulary with that token in it");
  }
  return files;
}

Result<TokenizerFiles> read_vocab_txt(const std::string& folder) {
  const std::string path = folder + "/vocab.txt";
  MPQ_TRY(const std::vector<std::byte> bytes, data::read_file(path, kMaxBytes));
  std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::map<size_t, std::string> tokens;
  Ids ids;
  while (!rest.empty() && tokens.size() <= kMaxTokens) {  // one too many is an error
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string token(rest.substr(0, end));
    if (!token.empty() && token.back() == '\r') token.pop_back();
    ids[token] = tokens.size();
    tokens.emplace(tokens.size(), token);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  TokenizerFiles files;
  auto vocabulary = vocabulary_of(tokens);
  if (!vocabulary.ok())
    return Error{vocabulary.error().code, path + ": " + vocabulary.error().message};
  files.vocabulary = *std::move(vocabulary);
  Json config;
  const std::string config_path = folder + "/tokenizer_config.json";
  std::error_code ignored;
  if (std::filesystem::exists(config_path, ignored)) {
    MPQ_TRY(config, data::read_json(config_path, kMaxBytes));
  }
  format::TextPreprocess& s = files.settings;
  s.lowercase = flag(config, "do_lower_case", true);
  s.split_chinese = flag(config, "tokenize_chinese_chars", true);
  s.strip_accents = flag(config, "strip_accents", s.lowercase);
  const auto token = [&](const char* key, const char* otherwise) {
    const Json& value = member(config, key);
    const Json& content = value.is_object() ? member(value, "content") : value;
    return content.is_string() ? content.get<std::string>() : std::string(otherwise);
  };
  const bool mpnet = token("tokenizer_class", "").starts_with("MPNet");
  struct Needed {
    uint32_t* id;
    const char *key, *otherwise;
  };
  for (const Needed& needed : {Needed{&s.unknown, "unk_token", "[UNK]"},
                               Needed{&s.begin, "cls_token", mpnet ? "<s>" : "[CLS]"},
                               Needed{&s.separator, "sep_token", mpnet ? "</s>" : "[SEP]"}}) {
    auto id = id_of(ids, token(needed.key, needed.otherwise));
    if (!id.ok()) return Error{id.error().code, path + ": " + id.error().message};
    *needed.id = *id;
  }
  s.padding = id_or_none(ids, token("pad_token", mpnet ? "<pad>" : "[PAD]"));
  s.mask = id_or_none(ids, token("mask_token", mpnet ? "<mask>" : "[MASK]"));
  s.pair_separators = mpnet ? 2 : 1;
  return files;
}

}  // namespace

Result<TokenizerFiles> read_tokenizer(const std::string& folder) {
  const std::string path = folder + "/tokenizer.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return read_vocab_txt(folder);
  MPQ_TRY(const Json json, data::read_json(path, kMaxBytes));
  auto files = parse_tokenizer(json);
  if (!files.ok()) return Error{files.error().code, path + ": " + files.error().message};
  return files;
}

}  // namespace mpq::convert::transformer
