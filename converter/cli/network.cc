#include "converter/cli/network.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>

#include "converter/data/read_file.h"
#include "converter/onnx/import.h"
#include "converter/passes/fill_quantizers.h"
#include "converter/passes/pass.h"
#include "converter/precision/names.h"
#include "converter/transformer/import.h"
#include "format/sha256.h"

namespace mpq::convert::cli {
namespace {

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

Result<Network> load_onnx(const std::string& path, const NetworkOptions& options) {
  if (options.max_tokens != 0)
    return Error{Status::kInvalidArgument, path + ": --max-tokens is for folders of encoders"};
  ImportOptions import;
  MPQ_TRY(import.input_shape, parse_shape(options.input_shape));
  MPQ_TRY(ImportedModel imported, import_onnx(path, import));
  Network network;
  network.graph = std::move(imported.graph);
  network.notes = std::move(imported.notes);
  MPQ_TRY(network.source_sha256, file_sha256(path));
  return network;
}

Result<Network> load_encoder(const std::string& folder, const NetworkOptions& options) {
  if (!options.input_shape.empty())
    return Error{Status::kInvalidArgument, folder + ": --input-shape is for ONNX files"};
  MPQ_TRY(transformer::ImportedEncoder imported,
          transformer::import_encoder(folder, {.max_tokens = options.max_tokens}));
  Network network;
  network.graph = std::move(imported.graph);
  network.notes = std::move(imported.notes);
  network.encoder = std::move(imported.config);
  MPQ_TRY(network.source_sha256, file_sha256(folder + "/" + transformer::kWeightsFile));
  return network;
}

}  // namespace

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
  MPQ_CHECK(run_passes(&network.graph, passes));
  network.is_quantised = has_quantizers(network.graph);
  return network;
}

}  // namespace mpq::convert::cli
