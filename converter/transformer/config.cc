#include "converter/transformer/config.h"

#include <algorithm>
#include <cmath>

#include "converter/data/json.h"

namespace mpq::convert::transformer {
namespace {

using data::Json;
using data::member;
using data::shown;

struct ModelType {
  const char* name;
  Architecture architecture;
};
constexpr ModelType kModelTypes[] = {{"bert", Architecture::kBert},
                                     {"mpnet", Architecture::kMpnet}};

struct ModelClass {
  const char* name;
  Architecture architecture;
  Head head;
};
constexpr ModelClass kModelClasses[] = {
    {"BertModel", Architecture::kBert, Head::kNone},
    {"BertForMaskedLM", Architecture::kBert, Head::kNone},
    {"BertForPreTraining", Architecture::kBert, Head::kNone},
    {"BertForSequenceClassification", Architecture::kBert, Head::kSequenceClassification},
    {"BertForQuestionAnswering", Architecture::kBert, Head::kQuestionAnswering},
    {"MPNetModel", Architecture::kMpnet, Head::kNone},
    {"MPNetForMaskedLM", Architecture::kMpnet, Head::kNone},
};

struct ActivationName {
  const char* name;
  Activation activation;
};
constexpr ActivationName kActivations[] = {{"gelu", Activation::kGelu},
                                           {"gelu_new", Activation::kGeluTanh},
                                           {"gelu_pytorch_tanh", Activation::kGeluTanh}};

struct SizeField {
  const char* key;
  size_t EncoderConfig::*member;
  uint64_t min, max;
  int64_t absent;  // the value where the key is missing; -1: it must be there
};
constexpr SizeField kSizes[] = {
    {"num_hidden_layers", &EncoderConfig::layers, 1, 1024, -1},
    {"num_attention_heads", &EncoderConfig::heads, 1, 1024, -1},
    {"hidden_size", &EncoderConfig::hidden, 1, 1 << 16, -1},
    {"intermediate_size", &EncoderConfig::intermediate, 1, 1 << 18, -1},
    {"vocab_size", &EncoderConfig::vocab, 1, 1 << 24, -1},
    {"max_position_embeddings", &EncoderConfig::max_positions, 1, 1 << 20, -1},
};
constexpr SizeField kBertSizes[] = {
    {"type_vocab_size", &EncoderConfig::type_vocab, 1, 1 << 10, 2},
    {"pad_token_id", &EncoderConfig::pad_id, 0, 1 << 24, 0},
};
constexpr SizeField kMpnetSizes[] = {
    {"relative_attention_num_buckets", &EncoderConfig::relative_buckets, 2, 1 << 10, 32},
    {"pad_token_id", &EncoderConfig::pad_id, 0, 1 << 24, 1},
};

// Settings that change what is computed and of which only one value is known here.
struct FixedField {
  const char* key;
  const char* value;  // as JSON; a missing key means the same
  const char* remedy;
};
constexpr FixedField kFixed[] = {
    {"position_embedding_type", "\"absolute\"", "train or export with absolute positions"},
    {"is_decoder", "false", "only encoders are converted"},
    {"add_cross_attention", "false", "only encoders are converted"},
    {"pruned_heads", "{}", "export the model with all its heads"},
    {"quantization_config", "null", "convert from the float weights"},
};

Error unsupported(const char* key, const Json& value, const std::string& remedy) {
  return {Status::kUnsupported,
          std::string(key) + " " + shown(value) + " is not supported; " + remedy};
}

// "one of a, b, c" over the names of a table.
template <typename Row, size_t kRows>
std::string names_of(const Row (&table)[kRows]) {
  std::string text = "one of ";
  for (const Row& row : table) text += (&row == table ? "" : ", ") + std::string(row.name);
  return text;
}
template <typename Row, size_t kRows>
const Row* find(const Row (&table)[kRows], const Json& name) {
  for (const Row& row : table)
    if (name == row.name) return &row;
  return nullptr;
}

Checked read_size(const Json& json, const SizeField& field, EncoderConfig* config) {
  const Json& value = member(json, field.key);
  if (value.is_null() && field.absent >= 0) {
    config->*field.member = static_cast<size_t>(field.absent);
    return Ok{};
  }
  if (!value.is_number_unsigned() || value < field.min || value > field.max)
    return Error{Status::kCorrupt, std::string(field.key) + " is " +
                                       (value.is_null() ? "missing" : shown(value)) +
                                       ", expected an integer from " + std::to_string(field.min) +
                                       " to " + std::to_string(field.max)};
  config->*field.member = value.get<size_t>();
  return Ok{};
}

Checked read_architecture(const Json& json, EncoderConfig* config) {
  const Json& type = member(json, "model_type");
  const ModelType* const known = find(kModelTypes, type);
  if (known == nullptr) return unsupported("model_type", type, "convert " + names_of(kModelTypes));
  config->architecture = known->architecture;
  const Json& classes = member(json, "architectures");
  if (classes.is_null() || classes.empty()) return Ok{};  // saved as a bare encoder
  const ModelClass* const model =
      classes.is_array() && classes.size() == 1 ? find(kModelClasses, classes.front()) : nullptr;
  if (model == nullptr || model->architecture != known->architecture)
    return unsupported("architectures", classes, "save the model as " + names_of(kModelClasses));
  config->head = model->head;
  return Ok{};
}

// {"0": "negative", "1": "positive"}; without it the two names that the library makes up.
Checked read_labels(const Json& json, EncoderConfig* config) {
  const Json& names = member(json, "id2label");
  if (names.is_null()) {
    config->labels = {"LABEL_0", "LABEL_1"};
    return Ok{};
  }
  if (!names.is_object() || names.empty())
    return Error{Status::kCorrupt, "id2label is " + shown(names) + ", expected names by class"};
  for (size_t i = 0; i < names.size(); ++i) {
    const Json& name = member(names, std::to_string(i));
    if (!name.is_string())
      return Error{Status::kCorrupt, "id2label has no name of class " + std::to_string(i) +
                                         ", expected classes 0 to " +
                                         std::to_string(names.size() - 1)};
    config->labels.push_back(name.get<std::string>());
  }
  return Ok{};
}

Checked check_together(const EncoderConfig& config) {
  if (config.hidden % config.heads != 0)
    return Error{Status::kCorrupt, "hidden_size " + std::to_string(config.hidden) +
                                       " is no multiple of num_attention_heads " +
                                       std::to_string(config.heads)};
  if (config.pad_id >= config.vocab)
    return Error{Status::kCorrupt, "pad_token_id " + std::to_string(config.pad_id) +
                                       " is not below vocab_size " + std::to_string(config.vocab)};
  if (config.max_positions <= config.first_position())
    return Error{Status::kCorrupt,
                 "max_position_embeddings " + std::to_string(config.max_positions) +
                     " leaves no position from " + std::to_string(config.first_position())};
  if (config.relative_buckets % 2 != 0)  // half of them for each direction
    return Error{Status::kCorrupt, "relative_attention_num_buckets " +
                                       std::to_string(config.relative_buckets) + " is odd"};
  return Ok{};
}

Result<EncoderConfig> parse_fields(const Json& json) {
  if (!json.is_object()) return Error{Status::kCorrupt, "is no JSON object"};
  EncoderConfig config;
  MPQ_CHECK(read_architecture(json, &config));
  for (const FixedField& field : kFixed) {
    const Json& value = member(json, field.key);
    if (!value.is_null() && value.dump(-1, ' ', true) != field.value)
      return unsupported(field.key, value, field.remedy);
  }
  for (const SizeField& field : kSizes) MPQ_CHECK(read_size(json, field, &config));
  if (config.architecture == Architecture::kBert)
    for (const SizeField& field : kBertSizes) MPQ_CHECK(read_size(json, field, &config));
  else
    for (const SizeField& field : kMpnetSizes) MPQ_CHECK(read_size(json, field, &config));

  const Json& activation = member(json, "hidden_act");
  const ActivationName* const known =
      activation.is_null() ? kActivations : find(kActivations, activation);
  if (known == nullptr)
    return unsupported("hidden_act", activation, "train with " + names_of(kActivations));
  config.hidden_act = known->activation;

  const Json& eps = member(json, "layer_norm_eps");
  config.layer_norm_eps = eps.is_number() ? eps.get<float>() : 1e-12F;
  if ((!eps.is_null() && !eps.is_number()) || !(config.layer_norm_eps > 0) ||
      !(config.layer_norm_eps < 1))
    return Error{Status::kCorrupt,
                 "layer_norm_eps is " + shown(eps) + ", expected a number above 0 and below 1"};
  if (config.head == Head::kSequenceClassification) MPQ_CHECK(read_labels(json, &config));
  MPQ_CHECK(check_together(config));
  return config;
}

}  // namespace

Result<EncoderConfig> parse_config(std::string_view json) {
  MPQ_TRY(const Json value, data::parse_json(json));
  return parse_fields(value);
}

Result<EncoderConfig> read_config(const std::string& folder) {
  constexpr uint64_t kMaxBytes = uint64_t{1} << 20;
  const std::string path = folder + "/config.json";
  MPQ_TRY(const Json json, data::read_json(path, kMaxBytes));
  auto config = parse_fields(json);
  if (!config.ok()) return Error{config.error().code, path + ": " + config.error().message};
  return config;
}

}  // namespace mpq::convert::transformer
