#include "converter/cli/convert.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "converter/cli/images.h"
#include "converter/cli/input.h"
#include "converter/cli/output.h"
#include "converter/cli/prepack.h"
#include "converter/data/write_file.h"
#include "format/writer.h"

namespace mpq::convert::cli {
namespace {

using Json = nlohmann::ordered_json;

// One row per kind of input.
using Convert = Result<Converted> (*)(const ConvertRequest&, Json*);
struct FrontDoor {
  InputKind kind;
  const char* name;
  Convert convert;
};
constexpr FrontDoor kFrontDoors[] = {
    {InputKind::kOnnx, "onnx", convert_onnx},
    {InputKind::kNvidia, "nvidia", convert_nvidia},
    {InputKind::kEncoder, "encoder", convert_encoder},
};

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

struct Histogram {
  std::array<uint64_t, 3> weights = {};  // of 8, 4, 2 bit
  uint64_t bytes = 0;
};

Histogram weight_histogram(const format::Model& model) {
  Histogram histogram;
  for (const format::Tensor& tensor : model.tensors) {
    if (!tensor.is_constant()) continue;
    histogram.bytes += tensor.data.size();
    uint64_t elements = 0;
    if (!is_signed_code(tensor.dtype) || !checked_elements(tensor.shape, &elements)) continue;
    const int bits = bits_of(tensor.dtype);
    histogram.weights[bits == 8 ? 0 : bits == 4 ? 1 : 2] += elements;
  }
  return histogram;
}

Checked run_convert(const ConvertRequest& request, const Global& global) {
  MPQ_TRY(const InputKind kind, recognise(request.input));
  const auto* const door = std::find_if(std::begin(kFrontDoors), std::end(kFrontDoors),
                                        [&](const FrontDoor& row) { return row.kind == kind; });
  Json report;
  report["schema_version"] = 1;
  report["input"] = request.input;
  report["kind"] = door->name;
  MPQ_TRY(Converted converted, door->convert(request, &report));
  format::Model& model = converted.lowered.model;
  model.producer = "mpqconvert " MPQ_VERSION;
  MPQ_TRY(std::vector<std::byte> bytes, format::write(model));
  for (const std::string& isa : request.prepack) {
    MPQ_TRY(bytes, prepack(bytes, isa));
  }
  MPQ_CHECK(data::write_file(request.output, bytes));

  const Histogram histogram = weight_histogram(model);
  report["output"] = request.output;
  report["bytes"] = bytes.size();
  report["prepacked"] = request.prepack;
  report["weights"] = {
      {"8", histogram.weights[0]}, {"4", histogram.weights[1]}, {"2", histogram.weights[2]}};
  if (!request.report.empty()) MPQ_CHECK(write_text(request.report, report.dump(2) + "\n"));
  if (global.json) return write_text("-", report.dump(2) + "\n");
  if (global.quiet) return Ok{};
  for (const std::string& line : converted.summary) fmt::print("{}\n", line);
  fmt::print("{}: {} nodes, {} weights (8 bit {}, 4 bit {}, 2 bit {}), {:.2f} MiB\n",
             request.output, model.nodes.size(),
             histogram.weights[0] + histogram.weights[1] + histogram.weights[2],
             histogram.weights[0], histogram.weights[1], histogram.weights[2],
             static_cast<double>(bytes.size()) / (1 << 20));
  return Ok{};
}

}  // namespace

Run add_convert(CLI::App* app, const Global* global) {
  auto request = std::make_shared<ConvertRequest>();  // shared by the option table and the action
  ConvertRequest& r = *request;
  app->add_option("input", r.input, kInputHelp)->required();
  app->add_option("-o,--output", r.output, "model file to write")->required();
  app->add_option("--map", r.map, "uniform:4, eagl:budget=0.75, ... or a map file (help: search)")
      ->capture_default_str();
  app->add_option("--calib", r.calib,
                  "what to calibrate on: images (a folder or tar), or texts (stsb:FILE, txt:FILE, "
                  "jsonl:FILE, ...)");
  app->add_option("--calib-samples,--calib-images", r.calib_samples,
                  "how many of them (default: 192 images, 1024 texts)")
      ->check(CLI::Range(1, 100000))
      ->type_name("N");
  app->add_option("--max-tokens", r.network.max_tokens,
                  "longest text in tokens (default: as the model says)")
      ->check(CLI::Range(2, 32768))
      ->type_name("N");
  app->add_option("--tokenizer", r.network.tokenizer, kTokenizerHelp);
  app->add_option("--preset", r.preset, "preprocessing: " + joined(preset_names()))
      ->capture_default_str();
  app->add_flag("--crop-only-small", r.crop_only_small,
                "images between crop and resize size are only cropped");
  app->add_option("--labels", r.labels, "class names: a line each, or an image set that has them");
  app->add_option("--input-shape", r.network.input_shape,
                  "1,3,224,224, where the model leaves it open");
  app->add_flag("--accumulators", r.accumulators, "the classifier writes its exact s32 sums");
  app->add_option("--cost-table", r.cost_table, "JSON of measured latencies or energies");
  app->add_option("--seed", r.seed, "choice of calibration samples")->capture_default_str();
  app->add_option("--prepack", r.prepack,
                  "avx512vnni,avx2: adds weights as kernels of these want them")
      ->delimiter(',')
      ->check(CLI::Validator(check_isa, "ISA"));
  app->add_option("--report", r.report, "JSON: what was done, layer by layer");
  app->add_option("--pareto", r.pareto, "JSON: the whole frontier of the map's search");
  app->add_option("--dump-after", r.network.dump_after,
                  "print the graph after a pass (import, ..., all)");
  return [request, global] {
    request->quiet = global->quiet;
    return run_convert(*request, *global);
  };
}

}  // namespace mpq::convert::cli
