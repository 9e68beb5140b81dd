#include "converter/transformer/import.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "converter/normal_numbers.h"
#include "converter/safetensors/reader.h"
#include "converter/transformer/sentence.h"

namespace mpq::convert::transformer {
namespace {

// What the two architectures call the same things.
struct Names {
  const char* prefix;  // of a model with a head; one without may have none
  const char* query;   // in a layer, as all below
  const char* key;
  const char* value;
  const char* attention_output;
  const char* attention_norm;
};
constexpr Names kBertNames = {"bert.",
                              "attention.self.query",
                              "attention.self.key",
                              "attention.self.value",
                              "attention.output.dense",
                              "attention.output.LayerNorm"};
constexpr Names kMpnetNames = {"mpnet.",           "attention.attn.q", "attention.attn.k",
                               "attention.attn.v", "attention.attn.o", "attention.LayerNorm"};

// The bucket of a distance key - query (MPNet, after T5, both directions, in
// binary32): exact up to a quarter of
// the buckets, then logarithmic up to 128.
size_t bucket_of(int64_t distance, size_t buckets) {
  constexpr float kMaxDistance = 128.0F;
  const size_t half = buckets / 2, exact = half / 2;
  const size_t side = distance > 0 ? half : 0;
  const auto far = static_cast<size_t>(std::abs(distance));
  if (far < exact) return side + far;
  const float position = std::log(static_cast<float>(far) / static_cast<float>(exact)) /
                         std::log(kMaxDistance / static_cast<float>(exact)) *
                         static_cast<float>(half - exact);
  return side + std::min(exact + static_cast<size_t>(position), half - 1);
}

class Builder {
 public:
  Builder(const Safetensors& file, const EncoderConfig& config, const SentenceConfig& sentence,
          const ImportOptions& options)
      : file_(file),
        config_(config),
        sentence_(sentence),
        classes_(static_cast<int64_t>(options.classes)),
        state_(options.seed),
        names_(config.architecture == Architecture::kBert ? kBertNames : kMpnetNames),
        hidden_(static_cast<int64_t>(config.hidden)) {
    const auto has_prefix = [&](const auto& entry) {
      return entry.first.starts_with(names_.prefix);
    };
    if (std::any_of(file.entries().begin(), file.entries().end(), has_prefix))
      prefix_ = names_.prefix;
  }

  Result<Graph> build(size_t max_tokens) {
    graph_.sequence_length = static_cast<uint32_t>(max_tokens);
    MPQ_TRY(ValueId x, embeddings());
    if (config_.relative_buckets != 0) {
      MPQ_TRY(relative_bias_, relative_bias());
    }
    for (size_t i = 0; i < config_.layers; ++i) {
      MPQ_TRY(x, layer("encoder.layer." + std::to_string(i) + ".", x));
    }
    MPQ_TRY(x, head(x));
    graph_.outputs = {x};
    MPQ_CHECK(check(graph_));
    return std::move(graph_);
  }

 private:
  Result<ValueId> constant(const std::string& name, const Shape& shape) {
    MPQ_TRY(std::vector<float> data, file_.floats(prefix_ + name, shape));
    return graph_.add_value({name, shape, std::move(data), true});
  }

  ValueId node(const std::string& name, Op op, std::vector<ValueId> inputs, int64_t width) {
    Node node{name, std::move(op), std::move(inputs), kNoValue, {}};
    node.output = graph_.add_value({name + ".out", {1, width}, {}, false});
    graph_.nodes.push_back(std::move(node));
    return graph_.nodes.back().output;
  }

  ValueId input(const std::string& name) {
    graph_.inputs.push_back(graph_.add_value({name, {1}, {}, false}));
    return graph_.inputs.back();
  }

  Result<ValueId> linear(const std::string& name, ValueId x, int64_t outputs) {
    const int64_t width = graph_.values[x].shape[1];
    MPQ_TRY(const ValueId weight, constant(name + ".weight", {outputs, width}));
    MPQ_TRY(const ValueId bias, constant(name + ".bias", {outputs}));
    return node(name, Linear{}, {x, weight, bias}, outputs);
  }

  Result<ValueId> layer_norm(const std::string& name, ValueId x) {
    MPQ_TRY(const ValueId gamma, constant(name + ".weight", {hidden_}));
    MPQ_TRY(const ValueId beta, constant(name + ".bias", {hidden_}));
    return node(name, LayerNorm{config_.layer_norm_eps}, {x, gamma, beta}, hidden_);
  }

  // A layer that is trained next: from the file if it has one of this shape, else new.
  Result<ValueId> trained_linear(const std::string& name, ValueId x, int64_t outputs) {
    constexpr double kDeviation = 0.02;  // as BERT's weights start
    const Shape shape{outputs, graph_.values[x].shape[1]};
    const auto entry = file_.entries().find(prefix_ + name + ".weight");
    if (entry != file_.entries().end() && entry->second.shape == shape)
      return linear(name, x, outputs);
    const auto count = static_cast<size_t>(shape[0] * shape[1]);
    const ValueId weight = graph_.add_value(
        {name + ".weight", shape, normal_numbers(count, kDeviation, &state_), true});
    const ValueId bias = graph_.add_value(
        {name + ".bias", {outputs}, std::vector<float>(static_cast<size_t>(outputs)), true});
    return node(name, Linear{}, {x, weight, bias}, outputs);
  }

  // Positions that no sequence reaches are left out.
  Result<ValueId> embeddings() {
    const auto rows = [](size_t n) { return static_cast<int64_t>(n); };
    const ValueId ids = input("input_ids");
    const ValueId types = config_.type_vocab == 0 ? kNoValue : input("token_type_ids");
    MPQ_TRY(const ValueId words,
            constant("embeddings.word_embeddings.weight", {rows(config_.vocab), hidden_}));
    MPQ_TRY(const ValueId positions, constant("embeddings.position_embeddings.weight",
                                              {rows(config_.max_positions), hidden_}));
    Value& table = graph_.values[positions];
    const auto first = static_cast<ptrdiff_t>(config_.first_position() * config_.hidden);
    const int64_t length = graph_.sequence_length;
    table.data = {table.data.begin() + first, table.data.begin() + first + length * hidden_};
    table.shape = {length, hidden_};
    std::vector<ValueId> inputs = {ids, types, words, positions};
    if (types != kNoValue) {
      MPQ_TRY(const ValueId type_rows, constant("embeddings.token_type_embeddings.weight",
                                                {rows(config_.type_vocab), hidden_}));
      inputs.push_back(type_rows);
    }
    const ValueId sum = node("embeddings", Embedding{}, std::move(inputs), hidden_);
    return layer_norm("embeddings.LayerNorm", sum);
  }

  // The table by bucket -> a row a head, a column a distance key - query.
  Result<ValueId> relative_bias() {
    const size_t buckets = config_.relative_buckets, heads = config_.heads;
    const std::string name = "encoder.relative_attention_bias.weight";
    MPQ_TRY(
        const std::vector<float> table,
        file_.floats(prefix_ + name, {static_cast<int64_t>(buckets), static_cast<int64_t>(heads)}));
    const int64_t reach = int64_t{graph_.sequence_length} - 1;
    std::vector<float> bias;
    for (size_t head = 0; head < heads; ++head)
      for (int64_t distance = -reach; distance <= reach; ++distance)
        bias.push_back(table[bucket_of(distance, buckets) * heads + head]);
    return graph_.add_value(
        {name, {static_cast<int64_t>(heads), 2 * reach + 1}, std::move(bias), true});
  }

  Result<ValueId> layer(const std::string& at, ValueId x) {
    MPQ_TRY(const ValueId q, linear(at + names_.query, x, hidden_));
    MPQ_TRY(const ValueId k, linear(at + names_.key, x, hidden_));
    MPQ_TRY(const ValueId v, linear(at + names_.value, x, hidden_));
    std::vector<ValueId> inputs = {q, k, v};
    if (relative_bias_ != kNoValue) inputs.push_back(relative_bias_);
    const ValueId attended = node(at + "attention", Attention{static_cast<uint32_t>(config_.heads)},
                                  std::move(inputs), hidden_);
    MPQ_TRY(const ValueId projected, linear(at + names_.attention_output, attended, hidden_));
    const ValueId with_x = node(at + "attention.add", Add{}, {projected, x}, hidden_);
    MPQ_TRY(const ValueId middle, layer_norm(at + names_.attention_norm, with_x));
    const auto wide = static_cast<int64_t>(config_.intermediate);
    MPQ_TRY(const ValueId up, linear(at + "intermediate.dense", middle, wide));
    const ValueId bent = node(at + "intermediate.gelu",
                              Gelu{config_.hidden_act == Activation::kGeluTanh}, {up}, wide);
    MPQ_TRY(const ValueId down, linear(at + "output.dense", bent, hidden_));
    const ValueId with_middle = node(at + "output.add", Add{}, {down, middle}, hidden_);
    return layer_norm(at + "output.LayerNorm", with_middle);
  }

  Result<ValueId> head(ValueId x) {
    if (classes_ != 0) {
      const ValueId first = node("pooling", SequencePool{}, {x}, hidden_);
      MPQ_TRY(const ValueId dense, trained_linear("pooler.dense", first, hidden_));
      prefix_.clear();
      return trained_linear("classifier", node("pooler.tanh", Tanh{}, {dense}, hidden_), classes_);
    }
    if (sentence_.pooling != Pooling::kNone)
      return node("pooling", SequencePool{sentence_.pooling == Pooling::kMean, sentence_.normalise},
                  {x}, hidden_);
    if (config_.head == Head::kNone) return x;
    if (config_.head == Head::kQuestionAnswering) {
      prefix_.clear();
      return linear("qa_outputs", x, 2);
    }
    // The first token through a dense layer and tanh. BERT has that layer in its body.
    const bool bert = config_.architecture == Architecture::kBert;
    const ValueId first = node("pooling", SequencePool{}, {x}, hidden_);
    if (!bert) prefix_.clear();
    MPQ_TRY(const ValueId dense,
            linear(bert ? "pooler.dense" : "classifier.dense", first, hidden_));
    const ValueId bent = node("pooler.tanh", Tanh{}, {dense}, hidden_);
    prefix_.clear();
    return linear(bert ? "classifier" : "classifier.out_proj", bent,
                  static_cast<int64_t>(config_.labels.size()));
  }

  const Safetensors& file_;
  const EncoderConfig& config_;
  const SentenceConfig& sentence_;
  const int64_t classes_;  // of a classifier to be trained; 0: as the folder says
  uint64_t state_;         // of random numbers
  const Names& names_;
  const int64_t hidden_;
  std::string prefix_;
  Graph graph_;
  ValueId relative_bias_ = kNoValue;
};

}  // namespace

bool looks_like_encoder(const std::string& folder) {
  std::error_code ignored;
  const std::filesystem::path path(folder);
  return std::filesystem::is_regular_file(path / "config.json", ignored) &&
         std::filesystem::is_regular_file(path / kWeightsFile, ignored);
}

Result<ImportedEncoder> import_encoder(const std::string& folder, const ImportOptions& options) {
  ImportedEncoder imported;
  MPQ_TRY(imported.config, read_config(folder));
  const EncoderConfig& config = imported.config;
  MPQ_TRY(const SentenceConfig sentence, read_sentence_config(folder, config));
  if (options.classes != 0 && config.architecture != Architecture::kBert)
    return Error{Status::kUnsupported, folder + ": only encoders of BERT's kind get a classifier"};
  const size_t longest = config.max_tokens();
  if (options.max_tokens > longest)
    return Error{Status::kInvalidArgument,
                 folder + ": sequences of " + std::to_string(options.max_tokens) +
                     " tokens, the network has positions for " + std::to_string(longest)};
  size_t tokens = options.max_tokens;
  if (tokens == 0)
    tokens = sentence.max_tokens == 0 ? longest : std::min(longest, sentence.max_tokens);
  MPQ_TRY(const Safetensors file, Safetensors::open(folder + "/" + kWeightsFile));
  Builder builder(file, config, sentence, options);
  auto graph = builder.build(tokens);
  if (!graph.ok()) return Error{graph.error().code, folder + ": " + graph.error().message};
  imported.graph = *std::move(graph);
  imported.graph.name = std::filesystem::path(folder + "/").parent_path().filename().string();
  imported.notes.push_back(std::to_string(config.layers) + " layers of " +
                           std::to_string(config.hidden) + " with " + std::to_string(config.heads) +
                           " heads, sequences of up to " + std::to_string(tokens) + " tokens");
  return imported;
}

}  // namespace mpq::convert::transformer
