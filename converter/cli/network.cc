#include "converter/cli/network.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "converter/data/read_file.h"
#include "converter/onnx/import.h"
#include "converter/passes/fill_quantizers.h"
#include "converter/passes/pass.h"
#include "converter/precision/names.h"
#include "converter/transformer/import.h"
#include "converter/transformer/sentence.h"
#include "format/sha256.h"

namespace mpq::convert::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kImport[] = "import";
constexpr char kAll[] = "all";

Result<Shape> parse_shape(const std::string& text) {
  Shape shape;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int64_t value = 0;
    const auto [rest, error] = std::from_chars(at, end, value);
    if (error != std::errc() || value <= 0 || (rest != end && (*rest != ',' || rest + 1 == end)))
      return Error{Status::kInvalidArgument,
                   "input shape '" + text + "': expected numbers such as 1,3,224,224"};
    shape.push_back(value);
    at = rest == end ? end : rest + 1;
  }
  return shape;
}

Result<std::string> file_sha256(const std::string& path) {
  MPQ_TRY(const data::File file, data::File::open(path));
  constexpr uint64_t kChunk = uint64_t{1} << 20;
  format::Sha256 hash;
  for (uint64_t offset = 0; offset < file.size(); offset += kChunk) {
    MPQ_TRY(const std::vector<std::byte> bytes,
            file.read(offset, std::min(kChunk, file.size() - offset)));
    hash.update(bytes);
  }
  return format::to_hex(hash.finish());
}

Checked check_pass_name(const std::string& name) {
  std::vector<std::string> names = {kImport, kAll};
  for (const Pass& pass : float_passes()) names.emplace_back(pass.name);
  if (name.empty() || std::find(names.begin(), names.end(), name) != names.end()) return Ok{};
  std::string known;
  for (const std::string& each : names) known += (known.empty() ? "" : ", ") + each;
  return Error{Status::kInvalidArgument, "--dump-after: no pass '" + name + "'" +
                                             precision::suggestion(name, names) +
                                             " Passes: " + known};
}

// Whether the output is a row a token.
bool gives_tokens(const Graph& graph) {
  const std::function<bool(ValueId)> pooled = [&](ValueId value) {
    const int at = producer(graph, value);
    if (at < 0) return false;
    const Node& node = graph.nodes[static_cast<size_t>(at)];
    return std::holds_alternative<SequencePool>(node.op) ||
           (!std::holds_alternative<Attention>(node.op) &&
            !std::holds_alternative<LayerNorm>(node.op) && pooled(activations(node)[0]));
  };
  return !pooled(graph.outputs[0]);
}

// The pooling that sentence-transformers put behind an encoder whose file ends before it.
Checked add_pooling(Network* network) {
  Graph& graph = network->graph;
  transformer::EncoderConfig config;
  config.hidden = static_cast<size_t>(graph.values[graph.outputs[0]].shape[1]);
  config.max_positions = graph.sequence_length;
  std::error_code ignored;
  if (!gives_tokens(graph) || !fs::exists(network->tokenizer + "/modules.json", ignored))
    return Ok{};
  MPQ_TRY(const transformer::SentenceConfig sentence,
          transformer::read_sentence_config(network->tokenizer, config));
  if (sentence.pooling == transformer::Pooling::kNone) return Ok{};
  const bool mean = sentence.pooling == transformer::Pooling::kMean;
  Node pool{"pooling", SequencePool{mean, sentence.normalise}, {graph.outputs[0]}, kNoValue, {}};
  pool.output = graph.add_value({"pooling.out", graph.values[graph.outputs[0]].shape, {}, false});
  graph.outputs = {pool.output};
  graph.nodes.push_back(std::move(pool));
  network->notes.push_back(std::string(mean ? "mean" : "first-token") + " pooling" +
                           (sentence.normalise ? " to length 1" : "") + " from " +
                           network->tokenizer + "/modules.json");
  return check(graph);
}

// What stands beside an ONNX file of texts: limits, pooling, names of classes.
Checked complete_texts(const std::string& folder, Network* network) {
  network->tokenizer = folder;
  MPQ_CHECK(add_pooling(network));
  const auto config = transformer::read_config(folder);
  const Graph& graph = network->graph;
  const auto outputs = static_cast<size_t>(graph.values[graph.outputs[0]].shape[1]);
  if (config.ok() && config->labels.size() == outputs && !gives_tokens(graph))
    network->labels = config->labels;
  network->notes.push_back("sequences of up to " + std::to_string(graph.sequence_length) +
                           " tokens");
  return Ok{};
}

Result<Network> load_onnx(const std::string& path, const NetworkOptions& options) {
  const std::string beside = fs::path(path).parent_path().string();
  const std::string folder = !options.tokenizer.empty() ? options.tokenizer
                             : beside.empty()           ? "."
                                                        : beside;
  constexpr size_t kNoLimit = UINT32_MAX;
  ImportOptions import;
  MPQ_TRY(import.input_shape, parse_shape(options.input_shape));
  import.max_tokens = options.max_tokens;
  MPQ_TRY(const size_t most, transformer::read_max_tokens(folder, kNoLimit));
  if (most != kNoLimit) import.most_tokens = static_cast<uint32_t>(most);
  MPQ_TRY(ImportedModel imported, import_onnx(path, import));
  Network network;
  network.graph = std::move(imported.graph);
  network.notes = std::move(imported.notes);
  if (network.takes_texts()) {
    MPQ_CHECK(complete_texts(folder, &network));
  } else if (options.max_tokens != 0 || !options.tokenizer.empty()) {
    return Error{Status::kInvalidArgument,
                 path + ": --max-tokens and --tokenizer are for networks of texts"};
  }
  MPQ_TRY(network.source_sha256, file_sha256(path));
  return network;
}

Result<Network> load_encoder(const std::string& folder, const NetworkOptions& options) {
  if (!options.input_shape.empty())
    return Error{Status::kInvalidArgument, folder + ": --input-shape is for ONNX files"};
  MPQ_TRY(transformer::ImportedEncoder imported,
          transformer::import_encoder(folder, {.max_tokens = options.max_tokens,
                                               .classes = options.classes,
                                               .seed = options.seed}));
  Network network;
  network.graph = std::move(imported.graph);
  network.notes = std::move(imported.notes);
  network.labels = std::move(imported.config.labels);
  network.tokenizer = options.tokenizer.empty() ? folder : options.tokenizer;
  MPQ_TRY(network.source_sha256, file_sha256(folder + "/" + transformer::kWeightsFile));
  return network;
}

}  // namespace

size_t Network::words() const {
  for (const Node& node : graph.nodes)
    if (std::holds_alternative<Embedding>(node.op))
      return static_cast<size_t>(graph.values[node.inputs[weights_input(node)]].shape[0]);
  return 0;
}

Result<Network> load_network(const std::string& path, const NetworkOptions& options) {
  MPQ_CHECK(check_pass_name(options.dump_after));
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  MPQ_TRY(Network network, folder ? load_encoder(path, options) : load_onnx(path, options));
  const auto dump = [&](const std::string& pass, const Graph& graph) {
    if (options.dump_after != pass && options.dump_after != kAll) return;
    std::printf("# after %s\n%s", pass.c_str(), print(graph).c_str());
  };
  dump(kImport, network.graph);
  PassOptions passes;
  passes.after = [&](const Pass& pass, const Graph& graph) { dump(pass.name, graph); };
  std::vector<Pass> wanted;
  for (const Pass& pass : float_passes())
    if (!options.keep_batch_norm || pass.run != fold_bn) wanted.push_back(pass);
  MPQ_CHECK(run_passes(&network.graph, wanted, passes));
  network.is_quantised = has_quantizers(network.graph);
  return network;
}

}  // namespace mpq::convert::cli
