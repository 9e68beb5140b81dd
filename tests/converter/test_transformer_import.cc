// Folders of encoders as graphs: the numbers that their tensors mean, and folders that are refused.
#include <doctest/doctest.h>

#include <cmath>

#include "converter/eval_sequences.h"
#include "converter/transformer/export.h"
#include "converter/transformer/import.h"
#include "encoder_folder.h"

namespace mpq::convert::transformer {
namespace {

using tests::TempFolder;

constexpr double kBound = 2e-5;  // of sums in float through two layers, beside doubles

const std::vector<std::vector<int32_t>> kIds = {{2, 5, 19, 3}, {2, 3}, {2, 7, 7, 0, 11, 4, 13, 3}};
const std::vector<std::vector<int32_t>> kTypes = {{0, 0, 1, 1}, {0, 0}, {0, 0, 0, 1, 1, 1, 1, 1}};

Result<ImportedEncoder> import_files(const EncoderFiles& files, const ImportOptions& options = {}) {
  const TempFolder folder;
  write_files(files, folder);
  return import_encoder(folder.path.string(), options);
}

std::string refusal(const EncoderFiles& files, const ImportOptions& options = {}) {
  const auto imported = import_files(files, options);
  return imported.ok() ? "" : imported.error().message;
}

bool mentions(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
  return false;
}

// The graph's output for all sequences at once beside what `meant` gives for each.
template <typename Meant>
double difference(const EncoderFiles& files, Meant meant) {
  const auto imported = import_files(files);
  REQUIRE_MESSAGE(imported.ok(), imported.error().message);
  const bool types = imported->config.type_vocab != 0;
  SequenceData data;
  for (size_t s = 0; s < kIds.size(); ++s)
    data.add(kIds[s], types ? kTypes[s] : std::vector<int32_t>());
  const auto output = evaluate_sequences(imported->graph, data);
  REQUIRE_MESSAGE(output.ok(), output.error().message);
  std::vector<double> want;
  for (size_t s = 0; s < kIds.size(); ++s)
    for (const auto& row : meant(kIds[s], kTypes[s]))
      want.insert(want.end(), row.begin(), row.end());
  REQUIRE(output->size() == want.size());
  double worst = 0.0;
  for (size_t i = 0; i < want.size(); ++i)
    worst = std::max(worst, std::abs(want[i] - double{(*output)[i]}));
  return worst;
}

Rows tanh_of(Rows rows) {
  for (auto& row : rows)
    for (double& v : row) v = std::tanh(v);
  return rows;
}

Rows pooled(const Rows& x, bool mean, bool normalise) {
  std::vector<double> row = x[0];
  double squares = 0.0;
  for (size_t c = 0; c < row.size(); ++c) {
    for (size_t t = 1; mean && t < x.size(); ++t) row[c] += x[t][c];
    if (mean) row[c] /= static_cast<double>(x.size());
    squares += row[c] * row[c];
  }
  for (double& v : row) v /= normalise ? std::sqrt(squares) : 1.0;
  return {row};
}

}  // namespace

TEST_CASE("import of encoders: hidden states of BERT and MPNet, with and without a prefix") {
  for (const auto& [architecture, prefix] : {std::pair{"BertModel", ""},
                                             {"BertModel", "bert."},
                                             {"BertForMaskedLM", "bert."},
                                             {"MPNetModel", ""},
                                             {"MPNetForMaskedLM", "mpnet."}})
    for (const char* activation : {"gelu", "gelu_new"}) {
      const std::string what = architecture;
      CAPTURE(what);
      EncoderFiles files = encoder_files(architecture, prefix, 1);
      files.config["hidden_act"] = activation;
      CHECK(difference(files, [&, p = prefix](const auto& ids, const auto& types) {
              return hidden_states(files, p, ids, types);
            }) <= kBound);
    }
}

TEST_CASE("import of encoders: classes, answers and embeddings") {
  const EncoderFiles classes = encoder_files("BertForSequenceClassification", "bert.", 2);
  CHECK(difference(classes, [&](const auto& ids, const auto& types) {
          const Rows first = {hidden_states(classes, "bert.", ids, types)[0]};
          return dense(classes, "classifier", tanh_of(dense(classes, "bert.pooler.dense", first)));
        }) <= kBound);
  const auto imported = import_files(classes);
  REQUIRE(imported.ok());
  CHECK(imported->config.labels == std::vector<std::string>{"no", "maybe", "yes"});

  const EncoderFiles answers = encoder_files("BertForQuestionAnswering", "bert.", 3);
  CHECK(difference(answers, [&](const auto& ids, const auto& types) {
          return dense(answers, "qa_outputs", hidden_states(answers, "bert.", ids, types));
        }) <= kBound);

  for (const auto& [architecture, prefix] : {std::pair{"BertModel", ""}, {"MPNetModel", "mpnet."}})
    for (const char* mode : {"mean", "cls"})
      for (const bool normalise : {true, false}) {
        EncoderFiles sentences = encoder_files(architecture, prefix, 4);
        add_pooling(&sentences, mode, normalise);
        CHECK(difference(sentences, [&, p = prefix](const auto& ids, const auto& types) {
                return pooled(hidden_states(sentences, p, ids, types), mode == std::string("mean"),
                              normalise);
              }) <= kBound);
      }
}

TEST_CASE("import of encoders: a new classifier in place of pooling, and its folder again") {
  EncoderFiles files = encoder_files("BertModel", "", 9);
  add_pooling(&files, "mean", true);
  files.others["vocab.txt"] = "[PAD]\n";
  const TempFolder folder;
  write_files(files, folder);
  const std::string source = folder.path.string(), target = source + "/classifier";
  const auto weights = [](const Graph& graph, const std::string& name) {
    for (const Value& value : graph.values)
      if (value.name == name) return value.data;
    return std::vector<float>();
  };
  const auto fresh = import_encoder(source, {.max_tokens = 7, .classes = 3});
  REQUIRE_MESSAGE(fresh.ok(), fresh.error().message);
  const Graph& graph = fresh->graph;
  CHECK(graph.values[graph.outputs[0]].shape == Shape{1, 3});
  CHECK(weights(graph, "pooler.dense.weight") == files.tensors.at("pooler.dense.weight").data);
  const std::vector<float> first = weights(graph, "classifier.weight");
  REQUIRE(first.size() == 24);
  CHECK(weights(import_encoder(source, {.classes = 3, .seed = 2})->graph, "classifier.weight") !=
        first);

  REQUIRE(export_classifier(graph, source, {"no", "maybe", "yes"}, target).ok());
  const auto again = import_encoder(target, {});
  REQUIRE_MESSAGE(again.ok(), again.error().message);
  CHECK(again->config.labels == std::vector<std::string>{"no", "maybe", "yes"});
  CHECK(again->config.max_tokens() == 7);
  CHECK(std::filesystem::exists(target + "/vocab.txt"));
  SequenceData data;
  data.add(kIds[0], kTypes[0]);
  const auto y = evaluate_sequences(graph, data), z = evaluate_sequences(again->graph, data);
  REQUIRE((y.ok() && z.ok()));
  CHECK(*y == *z);
  // Trained further: the head of as many classes stays, another one is new.
  CHECK(weights(import_encoder(target, {.classes = 3})->graph, "classifier.weight") == first);
  CHECK(weights(import_encoder(target, {.classes = 2})->graph, "classifier.weight").size() == 16);

  CHECK(!export_classifier(graph, source, {"no", "maybe", "yes"}, source).ok());
  CHECK(mentions(refusal(encoder_files("MPNetModel", "", 9), {.classes = 2}), "BERT's kind"));
}

TEST_CASE("import of encoders: the comparison notices a changed tensor, each of them") {
  const EncoderFiles meant = encoder_files("MPNetModel", "", 5);
  for (const auto& [name, tensor] : meant.tensors) {
    if (name.starts_with("pooler")) continue;  // no part of the hidden states
    const std::string changed_name = name;
    CAPTURE(changed_name);
    EncoderFiles changed = meant;
    // All but padding's rows and a bias of keys, which shifts all scores of a query alike.
    for (float& v : changed.tensors.at(name).data) v = v * 1.5F + 0.1F;
    const double error = difference(changed, [&](const auto& ids, const auto& types) {
      return hidden_states(meant, "", ids, types);
    });
    CHECK((error > 100 * kBound || name.ends_with("attn.k.bias")));
  }
}

TEST_CASE("import of encoders: buckets of relative positions") {
  // By hand, of 32: exact below 8, then two buckets each doubling, the last one from 90 on; keys
  // behind the query have the upper half.
  const std::pair<int, int> kKnown[] = {
      {0, 0},    {-1, 1},   {-7, 7},   {-8, 8},   {-11, 8},   {-12, 9},   {-15, 9},
      {-16, 10}, {-22, 10}, {-23, 11}, {-31, 11}, {-32, 12},  {-45, 12},  {-46, 13},
      {-63, 13}, {-64, 14}, {-90, 14}, {-91, 15}, {-128, 15}, {-139, 15}, {1, 17},
      {7, 23},   {8, 24},   {16, 26},  {45, 28},  {64, 30},   {91, 31},   {139, 31}};
  EncoderFiles files = encoder_files("MPNetModel", "", 6);
  files.config["max_position_embeddings"] = 142;
  EncoderTensor& positions = files.tensors.at("embeddings.position_embeddings.weight");
  positions = {{142, 8}, std::vector<float>(142 * 8, 0.5F)};
  std::vector<float>& table = files.tensors.at("encoder.relative_attention_bias.weight").data;
  for (size_t i = 0; i < table.size(); ++i)  // bucket + 100 head
    table[i] = static_cast<float>(i / 2 + i % 2 * 100);
  const auto imported = import_files(files);
  REQUIRE_MESSAGE(imported.ok(), imported.error().message);
  const auto bias = std::find_if(
      imported->graph.values.begin(), imported->graph.values.end(),
      [](const Value& v) { return v.name == "encoder.relative_attention_bias.weight"; });
  REQUIRE(bias != imported->graph.values.end());
  REQUIRE(bias->shape == Shape{2, 279});
  for (const auto& [distance, bucket] : kKnown) {
    const int at = distance;
    CAPTURE(at);
    for (const int head : {0, 1})
      CHECK(bias->data[static_cast<size_t>(head * 279 + distance + 139)] ==
            static_cast<float>(bucket + 100 * head));
  }
  size_t different = 0;
  for (int distance = -139; distance <= 139; ++distance)
    if (bias->data[static_cast<size_t>(distance + 139)] !=
        static_cast<float>(relative_bucket(distance, 32)))
      ++different;
  CHECK(different == 0);
}

TEST_CASE("import of encoders: the longest sequence is what positions, folder and caller allow") {
  EncoderFiles files = encoder_files("MPNetModel", "", 7);
  const auto length = [&](const ImportOptions& options) {
    const auto imported = import_files(files, options);
    REQUIRE_MESSAGE(imported.ok(), imported.error().message);
    CHECK(imported->graph.inputs.size() == 1);
    return imported->graph.sequence_length;
  };
  CHECK(length({}) == 12);
  CHECK(length({.max_tokens = 5}) == 5);
  CHECK(mentions(refusal(files, {.max_tokens = 13}),
                 "sequences of 13 tokens, the network has positions for 12"));
  files.others["sentence_bert_config.json"] = R"({"max_seq_length": 9})";
  CHECK(length({}) == 9);
  CHECK(length({.max_tokens = 11}) == 11);  // the caller knows better
}

TEST_CASE("import of encoders: a missing tensor and one of another shape are named") {
  for (const auto& [architecture, prefix] : {std::pair{"BertForSequenceClassification", "bert."},
                                             {"BertForQuestionAnswering", "bert."},
                                             {"MPNetModel", ""}}) {
    const EncoderFiles files = encoder_files(architecture, prefix, 8);
    REQUIRE(refusal(files).empty());
    const std::string name_of_class = architecture;
    for (const auto& [name, tensor] : files.tensors) {
      if (name.find("pooler") != std::string::npos && !name_of_class.ends_with("Classification"))
        continue;  // not read
      const std::string missing = name;
      CAPTURE(missing);
      EncoderFiles without = files;
      without.tensors.erase(name);
      CHECK(mentions(refusal(without), "tensor '" + name + "' is not among its " +
                                           std::to_string(without.tensors.size()) + " tensors"));
      EncoderFiles longer = files;
      EncoderTensor& changed = longer.tensors.at(name);
      Shape& shape = changed.shape;
      const size_t row = changed.data.size() / static_cast<size_t>(shape[0]);
      shape[0] += 1;
      changed.data.insert(changed.data.end(), row, 0.0F);
      CHECK(mentions(refusal(longer), "tensor '" + name + "': shape " + to_string(shape) +
                                          ", expected " + to_string(tensor.shape)));
    }
  }
}

TEST_CASE("import of encoders: settings that do not fit are refused by file, field and value") {
  const EncoderFiles files = encoder_files("BertModel", "", 9);
  const auto with = [&](const char* key, const nlohmann::json& value) {
    EncoderFiles copy = files;
    copy.config[key] = value;
    return refusal(copy);
  };
  CHECK(mentions(with("architectures", {"BertForTokenClassification"}),
                 "config.json: architectures [\"BertForTokenClassification\"] is not supported"));
  CHECK(mentions(with("model_type", "t5"), "config.json: model_type \"t5\" is not supported"));
  CHECK(mentions(with("num_attention_heads", 3),
                 "config.json: hidden_size 8 is no multiple of num_attention_heads 3"));
  CHECK(mentions(with("num_hidden_layers", 3), "tensor 'encoder.layer.2.attention.self.query"));
  CHECK(mentions(with("vocab_size", 21),
                 "tensor 'embeddings.word_embeddings.weight': shape 20x8, expected 21x8"));
  CHECK(mentions(with("max_position_embeddings", 1 << 20), "expected 1048576x8"));
  EncoderFiles wide = files;
  add_pooling(&wide, "mean", true);
  wide.others["1_Pooling/config.json"] = R"({"word_embedding_dimension": 9})";
  CHECK(mentions(refusal(wide), "word_embedding_dimension 9, the encoder has hidden_size 8"));
}

TEST_CASE("import of encoders: what is a folder of an encoder, and files cut short") {
  const TempFolder folder;
  const std::string at = folder.path.string();
  CHECK(!looks_like_encoder(at));
  CHECK(!import_encoder(at, {}).ok());
  write_files(encoder_files("BertModel", "", 10), folder);
  CHECK(looks_like_encoder(at));
  const auto path = folder.path / "model.safetensors";
  const auto size = std::filesystem::file_size(path);
  for (const uintmax_t left : {size - 1, size / 2, uintmax_t{100}, uintmax_t{7}, uintmax_t{0}}) {
    std::filesystem::resize_file(path, left);
    const auto cut = import_encoder(at, {});
    REQUIRE(!cut.ok());
    CHECK(mentions(cut.error().message, "model.safetensors"));
  }
  std::filesystem::remove(path);
  CHECK(!looks_like_encoder(at));
  const auto without = import_encoder(at, {});
  REQUIRE(!without.ok());
  CHECK(mentions(without.error().message, "model.safetensors: No such file"));
}

}  // namespace mpq::convert::transformer
