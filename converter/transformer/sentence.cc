#include "converter/transformer/sentence.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "converter/data/json.h"

namespace mpq::convert::transformer {
namespace {

using data::Json;
using data::member;
using data::shown;

constexpr uint64_t kMaxBytes = uint64_t{1} << 20;  // of a file of settings

// "sentence_transformers.models.Pooling" -> "Pooling"
std::string class_of(const Json& module) {
  const Json& type = member(module, "type");
  if (!type.is_string()) return "";
  const std::string text = type.get<std::string>();
  return text.substr(text.rfind('.') + 1);
}

Error unsupported_pooling(const std::string& path, const std::string& key, const Json& value) {
  return {Status::kUnsupported,
          path + ": " + key + " " + shown(value) +
              " is not supported; use pooling_mode_mean_tokens or pooling_mode_cls_token alone"};
}

Result<Pooling> read_pooling(const std::string& path, const EncoderConfig& config) {
  MPQ_TRY(const Json json, data::read_json(path, kMaxBytes));
  if (!json.is_object()) return Error{Status::kCorrupt, path + ": is no JSON object"};
  const Json& width = member(json, "word_embedding_dimension");
  if (width != config.hidden)
    return Error{Status::kCorrupt, path + ": word_embedding_dimension " + shown(width) +
                                       ", the encoder has hidden_size " +
                                       std::to_string(config.hidden)};
  Pooling pooling = Pooling::kNone;
  for (const auto& [key, value] : json.items()) {
    if (!key.starts_with("pooling_mode_") || value == false) continue;
    const bool mean = key == "pooling_mode_mean_tokens";
    const bool known = mean || key == "pooling_mode_cls_token";
    if (value != true || !known || pooling != Pooling::kNone)
      return unsupported_pooling(path, key, value);
    pooling = mean ? Pooling::kMean : Pooling::kCls;
  }
  if (pooling == Pooling::kNone)
    return Error{Status::kCorrupt, path + ": no pooling_mode_... is true"};
  return pooling;
}

// A module's folder must be one of the model's own.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
         });
}

Result<SentenceConfig> read_modules(const std::string& folder, const std::string& path,
                                    const EncoderConfig& config) {
  MPQ_TRY(const Json modules, data::read_json(path, kMaxBytes));
  if (!modules.is_array()) return Error{Status::kCorrupt, path + ": is no JSON list"};
  constexpr const char* kOrder[] = {"Transformer", "Pooling", "Normalize"};
  SentenceConfig sentence;
  for (size_t i = 0; i < modules.size(); ++i) {
    const std::string where = path + ": module " + std::to_string(i) + ": ";
    if (i >= std::size(kOrder) || class_of(modules[i]) != kOrder[i])
      return Error{
          Status::kUnsupported,
          where + "type " + shown(member(modules[i], "type")) +
              " is not supported there; only Transformer, Pooling, Normalize in this order"};
    const Json& place = member(modules[i], "path");
    const bool plain = place.is_string() && is_plain_name(place.get<std::string>());
    if (i == 0 && place != Json(""))
      return Error{Status::kUnsupported, where + "path " + shown(place) +
                                             " is not supported; move its files to the "
                                             "model's folder and make the path empty"};
    if (i == 1) {
      if (!plain)
        return Error{Status::kCorrupt, where + "path " + shown(place) + " is no folder's name"};
      MPQ_TRY(sentence.pooling,
              read_pooling(folder + "/" + place.get<std::string>() + "/config.json", config));
    }
    sentence.normalise = i == 2;
  }
  return sentence;
}

}  // namespace

Result<size_t> read_max_tokens(const std::string& folder, size_t otherwise) {
  std::error_code ignored;
  const std::string limits = folder + "/sentence_bert_config.json";
  if (!std::filesystem::exists(limits, ignored)) return otherwise;
  MPQ_TRY(const Json json, data::read_json(limits, kMaxBytes));
  const Json& tokens = member(json, "max_seq_length");
  if (tokens.is_null()) return otherwise;
  if (!tokens.is_number_unsigned() || tokens < 3)
    return Error{Status::kCorrupt,
                 limits + ": max_seq_length is " + shown(tokens) + ", expected an integer above 2"};
  return std::min(otherwise, tokens.get<size_t>());
}

Result<SentenceConfig> read_sentence_config(const std::string& folder,
                                            const EncoderConfig& config) {
  SentenceConfig sentence;
  std::error_code ignored;
  const std::string modules = folder + "/modules.json";
  if (std::filesystem::exists(modules, ignored)) {
    MPQ_TRY(sentence, read_modules(folder, modules, config));
  }
  MPQ_TRY(sentence.max_tokens, read_max_tokens(folder, config.max_tokens()));
  return sentence;
}

}  // namespace mpq::convert::transformer
