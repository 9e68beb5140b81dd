#include "encoder_folder.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace mpq::convert::transformer {
namespace {

constexpr int64_t kWidth = 8, kWide = 12, kWords = 20;
constexpr int kLayers = 2, kHeads = 2, kBuckets = 32;

bool is_mpnet(const EncoderFiles& files) { return files.config["model_type"] == "mpnet"; }

std::string safetensors(const std::map<std::string, EncoderTensor>& tensors) {
  nlohmann::ordered_json header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size(), bytes = tensor.data.size() * sizeof(float);
    data.append(reinterpret_cast<const char*>(tensor.data.data()), bytes);
    header[name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, begin + bytes}}};
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + text + data;
}

class Names {
 public:
  explicit Names(bool mpnet) : mpnet_(mpnet) {}
  std::string layer(int i, const char* bert, const char* mpnet) const {
    return "encoder.layer." + std::to_string(i) + "." + (mpnet_ ? mpnet : bert);
  }
  std::string query(int i) const { return layer(i, "attention.self.query", "attention.attn.q"); }
  std::string key(int i) const { return layer(i, "attention.self.key", "attention.attn.k"); }
  std::string value(int i) const { return layer(i, "attention.self.value", "attention.attn.v"); }
  std::string projection(int i) const {
    return layer(i, "attention.output.dense", "attention.attn.o");
  }
  std::string norm(int i) const {
    return layer(i, "attention.output.LayerNorm", "attention.LayerNorm");
  }
  std::string up(int i) const { return layer(i, "intermediate.dense", "intermediate.dense"); }
  std::string down(int i) const { return layer(i, "output.dense", "output.dense"); }
  std::string last_norm(int i) const { return layer(i, "output.LayerNorm", "output.LayerNorm"); }

 private:
  bool mpnet_;
};

const std::vector<float>& data_of(const EncoderFiles& files, const std::string& name) {
  return files.tensors.at(name).data;
}

void normalise(const EncoderFiles& files, const std::string& name, Rows* rows) {
  const std::vector<float>&gamma = data_of(files, name + ".weight"),
        &beta = data_of(files, name + ".bias");
  const double epsilon = files.config["layer_norm_eps"].get<double>();
  for (auto& row : *rows) {
    double mean = 0.0, variance = 0.0;
    for (const double v : row) mean += v / kWidth;
    for (const double v : row) variance += (v - mean) * (v - mean) / kWidth;
    for (size_t c = 0; c < row.size(); ++c)
      row[c] = (row[c] - mean) / std::sqrt(variance + epsilon) * double{gamma[c]} + double{beta[c]};
  }
}

void add(const Rows& other, Rows* rows) {
  for (size_t t = 0; t < rows->size(); ++t)
    for (size_t c = 0; c < other[t].size(); ++c) (*rows)[t][c] += other[t][c];
}

}  // namespace

int relative_bucket(int distance, int buckets) {
  constexpr double kFurthest = 128.0;
  const int half = buckets / 2, exact = half / 2, side = distance > 0 ? half : 0;
  const int far = std::abs(distance);
  if (far < exact) return side + far;
  const double share = std::log2(static_cast<double>(far) / exact) / std::log2(kFurthest / exact);
  return side + std::min(exact + static_cast<int>(share * (half - exact)), half - 1);
}

EncoderFiles encoder_files(const std::string& architecture, const std::string& prefix,
                           uint32_t seed) {
  EncoderFiles files;
  const bool mpnet = architecture.starts_with("MPNet");
  const int64_t positions = mpnet ? 14 : 12;
  files.config = {{"architectures", {architecture}},
                  {"hidden_act", "gelu"},
                  {"hidden_size", kWidth},
                  {"intermediate_size", kWide},
                  {"layer_norm_eps", 1e-5},
                  {"max_position_embeddings", positions},
                  {"model_type", mpnet ? "mpnet" : "bert"},
                  {"num_attention_heads", kHeads},
                  {"num_hidden_layers", kLayers},
                  {"pad_token_id", mpnet ? 1 : 0},
                  {"vocab_size", kWords}};
  if (mpnet)
    files.config["relative_attention_num_buckets"] = kBuckets;
  else
    files.config["type_vocab_size"] = 2;
  std::mt19937 random(seed);
  const auto make = [&](const std::string& name, const Shape& shape, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    EncoderTensor& tensor = files.tensors[name];
    tensor.shape = shape;
    int64_t count = 1;
    for (const int64_t dim : shape) count *= dim;
    for (int64_t i = 0; i < count; ++i) tensor.data.push_back(normal(random));
  };
  const auto linear = [&](const std::string& name, int64_t outputs, int64_t inputs) {
    make(name + ".weight", {outputs, inputs}, 0.0F, 0.4F);
    make(name + ".bias", {outputs}, 0.0F, 0.2F);
  };
  const auto norm = [&](const std::string& name) {
    make(name + ".weight", {kWidth}, 1.0F, 0.2F);
    make(name + ".bias", {kWidth}, 0.0F, 0.2F);
  };
  make(prefix + "embeddings.word_embeddings.weight", {kWords, kWidth}, 0.0F, 1.0F);
  make(prefix + "embeddings.position_embeddings.weight", {positions, kWidth}, 0.0F, 0.5F);
  if (!mpnet) make(prefix + "embeddings.token_type_embeddings.weight", {2, kWidth}, 0.0F, 0.5F);
  norm(prefix + "embeddings.LayerNorm");
  if (mpnet)
    make(prefix + "encoder.relative_attention_bias.weight", {kBuckets, kHeads}, 0.0F, 1.0F);
  const Names names(mpnet);
  for (int i = 0; i < kLayers; ++i) {
    for (const std::string& name :
         {names.query(i), names.key(i), names.value(i), names.projection(i)})
      linear(prefix + name, kWidth, kWidth);
    norm(prefix + names.norm(i));
    linear(prefix + names.up(i), kWide, kWidth);
    linear(prefix + names.down(i), kWidth, kWide);
    norm(prefix + names.last_norm(i));
  }
  linear(prefix + "pooler.dense", kWidth, kWidth);
  if (architecture.ends_with("QuestionAnswering")) linear("qa_outputs", 2, kWidth);
  if (architecture.ends_with("SequenceClassification")) {
    linear("classifier", 3, kWidth);
    files.config["id2label"] = {{"0", "no"}, {"1", "maybe"}, {"2", "yes"}};
  }
  return files;
}

void add_pooling(EncoderFiles* files, const std::string& mode, bool with_norm) {
  const std::string module = "sentence_transformers.models.";
  nlohmann::json modules = {{{"path", ""}, {"type", module + "Transformer"}},
                            {{"path", "1_Pooling"}, {"type", module + "Pooling"}}};
  if (with_norm) modules.push_back({{"path", "2_Normalize"}, {"type", module + "Normalize"}});
  files->others["modules.json"] = modules.dump();
  files->others["1_Pooling/config.json"] = nlohmann::json{
      {"word_embedding_dimension", kWidth},
      {"pooling_mode_cls_token", mode == "cls"},
      {"pooling_mode_mean_tokens",
       mode == "mean"}}.dump();
}

void write_files(const EncoderFiles& files, const tests::TempFolder& folder) {
  folder.write("config.json", files.config.dump());
  folder.write("model.safetensors", safetensors(files.tensors));
  for (const auto& [name, text] : files.others) folder.write(name, text);
}

Rows dense(const EncoderFiles& files, const std::string& name, const Rows& x) {
  const std::vector<float>&weight = data_of(files, name + ".weight"),
        &bias = data_of(files, name + ".bias");
  Rows rows;
  for (const auto& row : x) {
    rows.emplace_back();
    for (size_t o = 0; o < bias.size(); ++o) {
      double sum = double{bias[o]};
      for (size_t k = 0; k < row.size(); ++k) sum += row[k] * double{weight[o * row.size() + k]};
      rows.back().push_back(sum);
    }
  }
  return rows;
}

Rows hidden_states(const EncoderFiles& files, const std::string& prefix,
                   std::span<const int32_t> ids, std::span<const int32_t> types) {
  const bool mpnet = is_mpnet(files);
  const Names names(mpnet);
  const auto table = [&](const std::string& name, size_t row, size_t c) {
    return double{data_of(files, prefix + "embeddings." + name + ".weight")[row * kWidth + c]};
  };
  Rows x(ids.size(), std::vector<double>(kWidth));
  for (size_t t = 0; t < ids.size(); ++t)
    for (size_t c = 0; c < kWidth; ++c) {
      x[t][c] = table("word_embeddings", static_cast<size_t>(ids[t]), c) +
                table("position_embeddings", t + (mpnet ? 2 : 0), c);
      if (!mpnet) x[t][c] += table("token_type_embeddings", static_cast<size_t>(types[t]), c);
    }
  normalise(files, prefix + "embeddings.LayerNorm", &x);
  for (int i = 0; i < kLayers; ++i) {
    const Rows q = dense(files, prefix + names.query(i), x),
               k = dense(files, prefix + names.key(i), x),
               v = dense(files, prefix + names.value(i), x);
    Rows context(x.size(), std::vector<double>(kWidth));
    constexpr size_t kSize = kWidth / kHeads;
    for (size_t head = 0; head < kHeads; ++head)
      for (size_t a = 0; a < x.size(); ++a) {
        std::vector<double> p;
        double total = 0.0;
        for (size_t b = 0; b < x.size(); ++b) {
          double score = 0.0;
          for (size_t c = head * kSize; c < (head + 1) * kSize; ++c) score += q[a][c] * k[b][c];
          score /= std::sqrt(static_cast<double>(kSize));
          if (mpnet) {
            const int distance = static_cast<int>(b) - static_cast<int>(a);
            const auto bucket = static_cast<size_t>(relative_bucket(distance, kBuckets));
            score += double{data_of(
                files, prefix + "encoder.relative_attention_bias.weight")[bucket * kHeads + head]};
          }
          p.push_back(std::exp(score));
          total += p.back();
        }
        for (size_t b = 0; b < x.size(); ++b)
          for (size_t c = head * kSize; c < (head + 1) * kSize; ++c)
            context[a][c] += p[b] / total * v[b][c];
      }
    Rows attended = dense(files, prefix + names.projection(i), context);
    add(x, &attended);
    normalise(files, prefix + names.norm(i), &attended);
    Rows wide = dense(files, prefix + names.up(i), attended);
    const bool by_tanh = files.config["hidden_act"] == "gelu_new";
    for (auto& row : wide)
      for (double& u : row)
        u = by_tanh ? 0.5 * u * (1.0 + std::tanh(0.7978845608028654 * (u + 0.044715 * u * u * u)))
                    : 0.5 * u * std::erfc(-u * 0.7071067811865476);
    x = dense(files, prefix + names.down(i), wide);
    add(attended, &x);
    normalise(files, prefix + names.last_norm(i), &x);
  }
  return x;
}

}  // namespace mpq::convert::transformer
