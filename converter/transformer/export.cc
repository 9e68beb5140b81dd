#include "converter/transformer/export.h"

#include <filesystem>

#include "converter/data/json.h"
#include "converter/data/write_file.h"
#include "converter/safetensors/writer.h"
#include "converter/transformer/import.h"

namespace mpq::convert::transformer {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxBytes = uint64_t{1} << 20;  // of a file of settings
constexpr const char* kTokenizerFiles[] = {"tokenizer.json", "tokenizer_config.json", "vocab.txt",
                                           "special_tokens_map.json"};

Result<std::string> settings(const std::string& source, const std::vector<std::string>& labels,
                             uint32_t tokens) {
  MPQ_TRY(data::Json config, data::read_json(source + "/config.json", kMaxBytes));
  config["architectures"] = data::Json::array({"BertForSequenceClassification"});
  config["max_position_embeddings"] = tokens;
  config["id2label"] = config["label2id"] = data::Json::object();
  for (size_t i = 0; i < labels.size(); ++i) {
    config["id2label"][std::to_string(i)] = labels[i];
    config["label2id"][labels[i]] = i;
  }
  return config.dump(2) + "\n";
}

}  // namespace

Checked make_target(const std::string& source, const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return Error{Status::kIo, folder + ": " + error.message()};
  if (fs::equivalent(source, folder, error))
    return Error{Status::kInvalidArgument,
                 folder + ": is the folder of the network that is trained; name another one"};
  return Ok{};
}

Checked export_classifier(const Graph& graph, const std::string& source,
                          const std::vector<std::string>& labels, const std::string& folder) {
  MPQ_CHECK(make_target(source, folder));
  std::error_code ignored;
  for (const char* name : kTokenizerFiles) {
    if (!fs::exists(source + "/" + name, ignored)) continue;
    MPQ_TRY(const std::vector<std::byte> bytes, data::read_file(source + "/" + name));
    MPQ_CHECK(data::write_file(folder + "/" + name, bytes));
  }
  MPQ_TRY(const std::string config, settings(source, labels, graph.sequence_length));
  MPQ_CHECK(data::write_file(folder + "/config.json", std::as_bytes(std::span(config))));
  std::vector<NamedTensor> tensors;
  for (const Value& value : graph.values)
    if (value.is_constant) {
      const bool of_head = value.name.starts_with("classifier.");
      tensors.push_back({(of_head ? "" : "bert.") + value.name, value.shape, value.data});
    }
  return data::write_file(folder + "/" + kWeightsFile, write_safetensors(tensors));
}

}  // namespace mpq::convert::transformer
