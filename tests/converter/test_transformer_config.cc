// Settings of BERT and MPNet folders: real ones, and those that must be refused by field and value.

#include <doctest/doctest.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "converter/transformer/config.h"
#include "converter/transformer/sentence.h"
#include "tests/support/temp_folder.h"

namespace mpq::convert::transformer {
namespace {

using Json = nlohmann::json;
using tests::TempFolder;

// bert-base-uncased, as its authors published it.
const char* const kBertBase = R"({
  "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1,
  "gradient_checkpointing": false, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
  "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
  "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
  "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
  "position_embedding_type": "absolute", "transformers_version": "4.6.0.dev0",
  "type_vocab_size": 2, "use_cache": true, "vocab_size": 30522})";
// all-mpnet-base-v2.
const char* const kMpnetBase = R"({
  "architectures": ["MPNetForMaskedLM"], "bos_token_id": 0, "eos_token_id": 2,
  "hidden_act": "gelu", "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
  "max_position_embeddings": 514, "model_type": "mpnet", "num_attention_heads": 12,
  "num_hidden_layers": 12, "pad_token_id": 1, "relative_attention_num_buckets": 32,
  "vocab_size": 30527})";
const char* const kModules = R"([
  {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
  {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
  {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
])";
const char* const kPooling = R"({"word_embedding_dimension": 768, "pooling_mode_cls_token": false,
  "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false,
  "pooling_mode_mean_sqrt_len_tokens": false})";

// A document with changes merged into it (null removes a key).
std::string changed(const char* document, const char* change) {
  Json json = Json::parse(document);
  json.merge_patch(Json::parse(change));
  return json.dump();
}

template <typename T>
std::string message_of(const Result<T>& result) {
  return result.ok() ? "" : result.error().message;
}

bool mentions(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
  return false;
}

}  // namespace

TEST_CASE("config: BERT base and its heads") {
  const auto bert = parse_config(kBertBase);
  REQUIRE_MESSAGE(bert.ok(), message_of(bert));
  CHECK(bert->architecture == Architecture::kBert);
  CHECK(bert->head == Head::kNone);
  CHECK(bert->hidden_act == Activation::kGelu);
  CHECK(bert->layers == 12);
  CHECK(bert->heads == 12);
  CHECK(bert->hidden == 768);
  CHECK(bert->intermediate == 3072);
  CHECK(bert->vocab == 30522);
  CHECK(bert->type_vocab == 2);
  CHECK(bert->max_positions == 512);
  CHECK(bert->relative_buckets == 0);
  CHECK(bert->pad_id == 0);
  CHECK(bert->layer_norm_eps == 1e-12F);
  CHECK(bert->labels.empty());
  CHECK(bert->first_position() == 0);
  CHECK(bert->max_tokens() == 512);

  const auto qa = parse_config(changed(kBertBase, R"({"architectures": ["BertForQuestionAnswering"],
      "hidden_act": "gelu_new"})"));
  REQUIRE(qa.ok());
  CHECK(qa->head == Head::kQuestionAnswering);
  CHECK(qa->hidden_act == Activation::kGeluTanh);

  const char* const classifier = R"({"architectures": ["BertForSequenceClassification"]})";
  const auto two = parse_config(changed(kBertBase, classifier));
  REQUIRE(two.ok());
  CHECK(two->head == Head::kSequenceClassification);
  CHECK(two->labels == std::vector<std::string>{"LABEL_0", "LABEL_1"});
  // Keys in the order of their text: "10" comes before "2".
  const auto many = parse_config(changed(
      kBertBase, R"({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a",
      "1": "b", "10": "k", "2": "c", "3": "d", "4": "e", "5": "f", "6": "g", "7": "h", "8": "i",
      "9": "j"}})"));
  REQUIRE(many.ok());
  CHECK(many->labels ==
        std::vector<std::string>{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"});
}

TEST_CASE("config: MPNet counts positions from the padding token's successor") {
  const auto mpnet = parse_config(kMpnetBase);
  REQUIRE_MESSAGE(mpnet.ok(), message_of(mpnet));
  CHECK(mpnet->architecture == Architecture::kMpnet);
  CHECK(mpnet->relative_buckets == 32);
  CHECK(mpnet->type_vocab == 0);
  CHECK(mpnet->layer_norm_eps == 1e-5F);
  CHECK(mpnet->first_position() == 2);
  CHECK(mpnet->max_tokens() == 512);
}

TEST_CASE("config: what the library leaves out has the library's defaults") {
  const auto bert = parse_config(
      changed(kBertBase, R"({"architectures": null, "hidden_act": null, "layer_norm_eps": null,
      "pad_token_id": null, "type_vocab_size": null, "position_embedding_type": null})"));
  const auto whole = parse_config(kBertBase);
  REQUIRE_MESSAGE(bert.ok(), message_of(bert));
  CHECK(bert->layer_norm_eps == whole->layer_norm_eps);
  CHECK(bert->type_vocab == whole->type_vocab);
  CHECK(bert->pad_id == whole->pad_id);
  const auto mpnet = parse_config(
      changed(kMpnetBase, R"({"pad_token_id": null, "relative_attention_num_buckets": null})"));
  REQUIRE(mpnet.ok());
  CHECK(mpnet->pad_id == 1);
  CHECK(mpnet->relative_buckets == 32);
}

TEST_CASE("config: one error names the field, its value and what to do") {
  const struct {
    const char* change;
    const char* message;
  } kCases[] = {
      {R"({"model_type": "roberta"})",
       "model_type \"roberta\" is not supported; convert one of bert, mpnet"},
      {R"({"model_type": null})", "model_type null is not supported"},
      {R"({"architectures": ["BertForTokenClassification"]})",
       "architectures [\"BertForTokenClassification\"] is not supported; save the model as one "
       "of BertModel,"},
      {R"({"architectures": ["MPNetModel"]})", "architectures [\"MPNetModel\"] is not supported"},
      {R"({"architectures": ["BertModel", "BertModel"]})", "is not supported; save the model as"},
      {R"({"hidden_act": "relu"})",
       "hidden_act \"relu\" is not supported; train with one of gelu, gelu_new"},
      {R"({"position_embedding_type": "relative_key"})",
       "position_embedding_type \"relative_key\" is not supported; train or export with absolute"},
      {R"({"is_decoder": true})", "is_decoder true is not supported; only encoders"},
      {R"({"add_cross_attention": true})", "add_cross_attention true is not supported"},
      {R"({"pruned_heads": {"1": [0, 2]}})",
       "pruned_heads {\"1\":[0,2]} is not supported; export the model with all its heads"},
      {R"({"quantization_config": {"load_in_8bit": true}})", "convert from the float weights"},
      {R"({"num_hidden_layers": 0})", "num_hidden_layers is 0, expected an integer from 1 to 1024"},
      {R"({"hidden_size": null})", "hidden_size is missing, expected"},
      {R"({"hidden_size": "768"})", "hidden_size is \"768\", expected"},
      {R"({"vocab_size": 1e30})", "vocab_size is 1e+30, expected"},
      {R"({"intermediate_size": -1})", "intermediate_size is -1, expected"},
      {R"({"num_attention_heads": 10})",
       "hidden_size 768 is no multiple of num_attention_heads 10"},
      {R"({"pad_token_id": 30522})", "pad_token_id 30522 is not below vocab_size 30522"},
      {R"({"layer_norm_eps": 0})", "layer_norm_eps is 0, expected a number above 0"},
      {R"({"layer_norm_eps": "1e-12"})", "layer_norm_eps is \"1e-12\""},
      {R"({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "2": "b"}})",
       "id2label has no name of class 1, expected classes 0 to 1"},
      {R"({"architectures": ["BertForSequenceClassification"], "id2label": []})", "id2label is []"},
  };
  for (const auto& c : kCases) {
    CAPTURE(c.change);
    CHECK(mentions(message_of(parse_config(changed(kBertBase, c.change))), c.message));
  }
  CHECK(mentions(
      message_of(parse_config(changed(kMpnetBase, R"({"relative_attention_num_buckets": 31})"))),
      "relative_attention_num_buckets 31 is odd"));
  CHECK(mentions(message_of(parse_config(changed(kMpnetBase, R"({"max_position_embeddings": 2})"))),
                 "max_position_embeddings 2 leaves no position from 2"));
  CHECK(mentions(message_of(parse_config("[]")), "is no JSON object"));
  CHECK(mentions(message_of(parse_config("{")), "no valid JSON"));
  std::string deep = R"({"pruned_heads":)";
  deep.append(500000, '[').append(500000, ']').append("}");
  CHECK(mentions(message_of(parse_config(deep)), "nested deeper than 32"));
}

TEST_CASE("config: every truncation is refused and the file is named") {
  const std::string whole = kBertBase;
  size_t accepted = 0;
  for (size_t n = 0; n < whole.size(); ++n) accepted += parse_config(whole.substr(0, n)).ok();
  CHECK(accepted == 0);
  const TempFolder folder;
  folder.write("config.json", changed(kBertBase, R"({"hidden_act": "silu"})"));
  CHECK(mentions(message_of(read_config(folder.path.string())), "/config.json: hidden_act"));
  CHECK(read_config((folder.path / "none").string()).error().code == Status::kNotFound);
}

TEST_CASE("sentence: pooling, normalisation and length") {
  const TempFolder folder;
  const std::string at = folder.path.string();
  const auto mpnet = parse_config(kMpnetBase);
  REQUIRE(mpnet.ok());
  const auto bare = read_sentence_config(at, *mpnet);
  REQUIRE(bare.ok());
  CHECK(bare->pooling == Pooling::kNone);
  CHECK(!bare->normalise);
  CHECK(bare->max_tokens == 512);

  folder.write("modules.json", kModules);
  folder.write("1_Pooling/config.json", kPooling);
  folder.write("sentence_bert_config.json", R"({"max_seq_length": 384, "do_lower_case": false})");
  const auto mean = read_sentence_config(at, *mpnet);
  REQUIRE_MESSAGE(mean.ok(), message_of(mean));
  CHECK(mean->pooling == Pooling::kMean);
  CHECK(mean->normalise);
  CHECK(mean->max_tokens == 384);

  Json two = Json::parse(kModules);
  two.erase(2);
  folder.write("modules.json", two.dump());
  folder.write("1_Pooling/config.json", changed(kPooling, R"({"pooling_mode_cls_token": true,
      "pooling_mode_mean_tokens": false})"));
  folder.write("sentence_bert_config.json", R"({"max_seq_length": 9999})");
  const auto cls = read_sentence_config(at, *mpnet);
  REQUIRE_MESSAGE(cls.ok(), message_of(cls));
  CHECK(cls->pooling == Pooling::kCls);
  CHECK(!cls->normalise);
  CHECK(cls->max_tokens == 512);
}

TEST_CASE("sentence: what is not understood is refused by file and field") {
  const auto mpnet = parse_config(kMpnetBase);
  REQUIRE(mpnet.ok());
  const Json modules = Json::parse(kModules);
  const auto with = [&modules](size_t index, const char* key, const char* value) {
    Json copy = modules;
    copy[index][key] = value;
    return copy.dump();
  };
  const struct {
    const char* file;
    std::string text;
    const char* message;
  } kCases[] = {
      {"modules.json", with(2, "type", "sentence_transformers.models.Dense"),
       "modules.json: module 2: type \"sentence_transformers.models.Dense\" is not supported"},
      {"modules.json", with(1, "type", "sentence_transformers.models.Normalize"),
       "module 1: type \"sentence_transformers.models.Normalize\" is not supported there"},
      {"modules.json", with(1, "path", "../../etc"), "path \"../../etc\" is no folder's name"},
      {"modules.json", with(1, "path", ".."), "path \"..\" is no folder's name"},
      {"modules.json", with(0, "path", "0_Transformer"), "path \"0_Transformer\" is not supported"},
      {"modules.json", with(1, "path", "2_Pooling"), "2_Pooling/config.json: No such file"},
      {"modules.json", "{}", "modules.json: is no JSON list"},
      {"modules.json", "", "modules.json: no valid JSON"},
      {"1_Pooling/config.json", changed(kPooling, R"({"word_embedding_dimension": 384})"),
       "word_embedding_dimension 384, the encoder has hidden_size 768"},
      {"1_Pooling/config.json",
       changed(kPooling, R"({"pooling_mode_mean_tokens": false, "pooling_mode_max_tokens": true})"),
       "pooling_mode_max_tokens true is not supported; use pooling_mode_mean_tokens or"},
      {"1_Pooling/config.json", changed(kPooling, R"({"pooling_mode_cls_token": true})"),
       "pooling_mode_mean_tokens true is not supported"},
      {"1_Pooling/config.json", changed(kPooling, R"({"pooling_mode_mean_tokens": false})"),
       "no pooling_mode_... is true"},
      {"1_Pooling/config.json", "[]", "is no JSON object"},
      {"sentence_bert_config.json", R"({"max_seq_length": 2})", "max_seq_length is 2"},
      {"sentence_bert_config.json", R"({"max_seq_length": "x"})", "max_seq_length is \"x\""},
  };
  for (const auto& c : kCases) {
    const TempFolder folder;
    folder.write("modules.json", kModules);
    folder.write("1_Pooling/config.json", kPooling);
    folder.write(c.file, c.text);
    CAPTURE(c.text);
    CHECK(mentions(message_of(read_sentence_config(folder.path.string(), *mpnet)), c.message));
  }
}

TEST_CASE("sentence: the fetched encoders") {
  const struct {
    const char* name;
    size_t layers, hidden, max_tokens;
  } kModels[] = {{"all-MiniLM-L6-v2", 6, 384, 256}, {"all-mpnet-base-v2", 12, 768, 384}};
  for (const auto& model : kModels) {
    const std::string folder = (tests::model_cache() / model.name).string();
    if (!std::filesystem::exists(folder)) {
      std::printf("SKIPPED: sentence: %s: run scripts/fetch_text_models.sh --mpnet\n", model.name);
      continue;
    }
    const auto config = read_config(folder);
    REQUIRE_MESSAGE(config.ok(), message_of(config));
    CHECK(config->layers == model.layers);
    CHECK(config->hidden == model.hidden);
    const auto sentence = read_sentence_config(folder, *config);
    REQUIRE_MESSAGE(sentence.ok(), message_of(sentence));
    CHECK(sentence->pooling == Pooling::kMean);
    CHECK(sentence->normalise);
    CHECK(sentence->max_tokens == model.max_tokens);
  }
}

}  // namespace mpq::convert::transformer
