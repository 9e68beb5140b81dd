#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "converter/cli/convert.h"
#include "converter/cli/images.h"
#include "converter/cli/input.h"
#include "converter/cli/quantise.h"
#include "converter/passes/fill_quantizers.h"
#include "converter/precision/imported.h"

namespace mpq::convert::cli {
namespace {

using Json = nlohmann::ordered_json;

Result<Calibration> load_images(const ConvertRequest& request,
                                const format::ImagePreprocess& image) {
  constexpr uint32_t kDefault = 192;
  const uint32_t count = request.calib_samples == 0 ? kDefault : request.calib_samples;
  return load_calibration(request.calib, count, request.seed, image, request.quiet);
}

// Float network -> codes, by a map and calibration images.
Result<format::PrecisionMap> quantise_images(const ConvertRequest& request,
                                             const format::ImagePreprocess& image, Graph* graph,
                                             Converted* converted, Json* report) {
  if (request.calib.empty())
    return Error{Status::kInvalidArgument,
                 request.input +
                     ": is a float network; give images to calibrate on, such as --calib images/"};
  MPQ_TRY(precision::SearchResult search, choose_map(request, *graph, converted));
  MPQ_TRY(const Calibration calibration, load_images(request, image));
  MPQ_TRY(const PtqReport ptq,
          quantise(request, search, {calibration.samples, calibration.count}, graph, report));
  converted->summary.push_back(fmt::format(
      "quantised on {} images: {:.1f} dB at the output, best class as in float on {:.1f} %",
      calibration.count, ptq.output_sqnr, 100.0 * ptq.top1_agreement));
  (*report)["calibration_images"] = calibration.count;
  return std::move(search.map);
}

// Quantisers where a network that came quantised has none, by calibration images.
Checked fill(const ConvertRequest& request, const format::ImagePreprocess& image, Network* network,
             Converted* converted, Json* report) {
  const std::vector<MissingQuantizer> missing = missing_quantizers(network->graph);
  if (missing.empty()) return Ok{};
  if (request.calib.empty()) {
    const std::string more =
        missing.size() == 1 ? "" : fmt::format(", and {} more", missing.size() - 1);
    return Error{
        Status::kInvalidArgument,
        fmt::format("{}: {}{}; give images to calibrate 8-bit quantisers for them on, such "
                    "as --calib images/",
                    request.input, describe(network->graph, missing.front()), more)};
  }
  MPQ_TRY(const Calibration calibration, load_images(request, image));
  MPQ_TRY(const std::vector<FilledTensor> filled,
          fill_quantizers(&network->graph, {calibration.samples, calibration.count}));
  Json rows = Json::array();
  size_t weights = 0;
  for (const FilledTensor& tensor : filled) {
    Json row = {{"name", tensor.name}, {"readers", tensor.readers}};
    row["weights"] = tensor.is_weights;
    if (!tensor.is_weights) {
      row["step"] = tensor.scale;
      row["zero_point"] = tensor.zero_point;
    }
    rows.push_back(std::move(row));
    weights += tensor.is_weights ? 1 : 0;
  }
  (*report)["calibration_images"] = calibration.count;
  (*report)["filled"] = std::move(rows);
  converted->summary.push_back(
      fmt::format("the network's own quantisers are kept; 8 bit for {} tensors{} that it left in "
                  "float, calibrated on {} images",
                  filled.size() - weights,
                  weights == 0 ? "" : fmt::format(" and the weights of {} layers", weights),
                  calibration.count));
  return Ok{};
}

}  // namespace

Result<Converted> convert_onnx(const ConvertRequest& request, Json* report) {
  MPQ_TRY(Network network, load_network(request.input, request.network));
  if (network.takes_texts()) return convert_texts(request, std::move(network), report);
  Converted converted;
  converted.summary = network.notes;
  const Graph& graph = network.graph;
  if (graph.inputs.size() != 1)
    return Error{Status::kUnsupported,
                 request.input + ": has " + std::to_string(graph.inputs.size()) + " inputs"};
  MPQ_TRY(const format::ImagePreprocess image,
          preset(request.preset, graph.values[graph.inputs[0]].shape, request.crop_only_small));

  format::PrecisionMap map;
  if (network.is_quantised) {
    MPQ_CHECK(fill(request, image, &network, &converted, report));
    MPQ_TRY(map, precision::imported_map(graph));
  } else {
    MPQ_TRY(map, quantise_images(request, image, &network.graph, &converted, report));
  }
  map.source_sha256 = network.source_sha256;
  MPQ_TRY(converted.lowered,
          lower(graph,
                {.image_input = true, .image = image, .accumulator_output = request.accumulators}));
  format::Model& model = converted.lowered.model;
  model.map = std::move(map);
  model.metadata.emplace_back("preset", request.preset);
  if (!request.labels.empty()) {
    MPQ_TRY(model.labels, read_labels(request.labels));
  }
  return converted;
}

}  // namespace mpq::convert::cli
