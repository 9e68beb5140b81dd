#include "integrations/triton/network.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "integrations/triton/error.h"

namespace mpq::triton {

namespace {

using serve::Json;

constexpr uint32_t kConfigVersion = 1;
constexpr uint32_t kUsualBatch = 8;

struct DeleteMessage {
  void operator()(TRITONSERVER_Message* message) const {
    ignore(TRITONSERVER_MessageDelete(message));
  }
};
using MessagePtr = std::unique_ptr<TRITONSERVER_Message, DeleteMessage>;

Json config_of(TRITONBACKEND_Model* model) {
  TRITONSERVER_Message* message = nullptr;
  call(TRITONBACKEND_ModelConfig(model, kConfigVersion, &message));
  const MessagePtr owner(message);
  const char* text = nullptr;
  size_t bytes = 0;
  call(TRITONSERVER_MessageSerializeToJson(message, &text, &bytes));
  return Json::parse(text, text + bytes);
}

void set_config(TRITONBACKEND_Model* model, const Json& config) {
  const std::string text = config.dump();
  TRITONSERVER_Message* message = nullptr;
  call(TRITONSERVER_MessageNewFromSerializedJson(&message, text.data(), text.size()));
  const MessagePtr owner(message);
  call(TRITONBACKEND_ModelSetConfig(model, kConfigVersion, message));
}

serve::FileBytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  serve::FileBytes bytes;
  if (size > 0) {
    bytes.resize(static_cast<size_t>(size));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(bytes.bytes().data()), size);
  }
  if (size <= 0 || !file) throw std::runtime_error(path.filename().string() + ": cannot be read");
  return bytes;
}

std::string parameter(const Json& config, const char* key) {
  const Json parameters = config.value("parameters", Json::object());
  return parameters.contains(key) ? parameters[key].value("string_value", "") : "";
}

uint32_t number(const Json& config, const char* key, uint32_t most) {
  const std::string text = parameter(config, key);
  if (text.empty()) return 0;
  if (text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos ||
      std::stoul(text) > most)
    throw std::runtime_error(std::string("parameter ") + key + ": " + text + " is not in 0 to " +
                             std::to_string(most));
  return static_cast<uint32_t>(std::stoul(text));
}

uint32_t instances_of(const Json& config) {
  uint32_t count = 0;
  for (const Json& group : config.value("instance_group", Json::array()))
    count += group.value("count", 1U);
  return std::max(count, 1U);
}

Json tensor(const std::string& name, const std::string& datatype,
            const std::vector<int64_t>& dims) {
  return {{"name", name}, {"data_type", "TYPE_" + datatype}, {"dims", dims}};
}

bool is_empty(const Json& config, const char* key) {
  return !config.contains(key) || config[key].empty();
}

}  // namespace

Json inputs_of(const serve::Facts& facts) {
  Json inputs = Json::array();
  if (!facts.sequences()) {
    for (const serve::TensorFacts& input : facts.inputs)
      inputs.push_back(tensor(input.name, input.datatype, input.shape));
    return inputs;
  }
  if (facts.takes_text) inputs.push_back(tensor("text", "STRING", {-1}));
  inputs.push_back(tensor("input_ids", "INT64", {-1}));
  inputs.push_back(tensor("attention_mask", "INT64", {-1}));
  if (facts.takes_types) inputs.push_back(tensor("token_type_ids", "INT64", {-1}));
  for (Json& input : inputs) {
    input["optional"] = input["name"] != "input_ids" || facts.takes_text;
    input["allow_ragged_batch"] = true;
  }
  return inputs;
}

Json outputs_of(const serve::Facts& facts) {
  Json outputs = Json::array();
  for (const serve::TensorFacts& output : facts.outputs) {
    std::vector<int64_t> dims = output.shape;
    if (output.per_token) dims.insert(dims.begin(), -1);
    outputs.push_back(tensor(output.name, output.datatype, dims));
  }
  return outputs;
}

std::unique_ptr<Network> load_network(TRITONBACKEND_Model* model) {
  const char* name = nullptr;
  const char* folder = nullptr;
  uint64_t version = 0;
  TRITONBACKEND_ArtifactType type{};
  call(TRITONBACKEND_ModelName(model, &name));
  call(TRITONBACKEND_ModelVersion(model, &version));
  call(TRITONBACKEND_ModelRepository(model, &type, &folder));
  if (type != TRITONBACKEND_ARTIFACT_FILESYSTEM)
    throw std::runtime_error("models come from a file system");

  Json config = config_of(model);
  bool completing = false;
  call(TRITONBACKEND_ModelAutoCompleteConfig(model, &completing));
  const bool bare = is_empty(config, "input") && is_empty(config, "output");
  uint32_t most = config.value("max_batch_size", 0U);
  if (completing && bare && most == 0) most = kUsualBatch;

  serve::ModelConfig options;
  options.max_batch_size = std::max(most, 1U);
  options.max_batch_tokens = number(config, "max_batch_tokens", 1U << 24);
  options.isa = parameter(config, "isa");
  options.instances = instances_of(config);
  options.threads = number(config, "threads", 1024);

  std::string file = config.value("default_model_filename", "");
  if (file.empty()) file = "model.fb";
  std::string why;
  auto network = std::make_unique<Network>();
  network->batching = most != 0;
  network->threads = options.threads != 0 ? options.threads
                                          : std::max(mpq_default_threads() / options.instances, 1U);
  network->facts = serve::load_facts(
      name, std::to_string(version), options,
      read_file(std::filesystem::path(folder) / std::to_string(version) / file), &why);
  if (network->facts == nullptr) throw std::runtime_error(file + ": " + why);

  if (completing) {
    if (is_empty(config, "input")) config["input"] = inputs_of(*network->facts);
    if (is_empty(config, "output")) config["output"] = outputs_of(*network->facts);
    config["max_batch_size"] = most;
    if (most > 1 && !config.contains("sequence_batching") && !config.contains("dynamic_batching"))
      config["dynamic_batching"] = Json::object();
    set_config(model, config);
  }
  return network;
}

}  // namespace mpq::triton
