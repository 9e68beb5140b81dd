#include "converter/cli/quantise.h"

#include <nlohmann/json.hpp>

#include "converter/cli/images.h"
#include "converter/cli/maps.h"
#include "converter/cli/output.h"
#include "converter/cli/progress.h"
#include "converter/cli/training.h"
#include "converter/precision/spec.h"
#include "converter/report.h"

namespace mpq::convert::cli {
namespace {

using Json = nlohmann::ordered_json;

// The report of the quantisation, with the entropies that chose its map.
Json report_of(const PtqReport& ptq, const precision::SearchResult& search) {
  Json json = Json::parse(report_json(ptq));
  for (size_t i = 0; i < json["layers"].size() && i < search.layer_entropy.size(); ++i)
    json["layers"][i]["entropy"] = search.layer_entropy[i];
  return json;
}

}  // namespace

Result<precision::SearchResult> choose_map(const ConvertRequest& request, const Graph& graph,
                                           Converted* converted) {
  LabelledImages images;
  if (precision::looks_at_images(request.map) && !request.calib.empty() &&
      graph.sequence_length == 0) {
    constexpr uint32_t kImages = 256;
    MPQ_TRY(const format::ImagePreprocess image,
            preset(request.preset, graph.values[graph.inputs[0]].shape, request.crop_only_small));
    MPQ_TRY(images, load_images(request.calib, kImages, image, request.quiet));
  }
  MPQ_TRY(precision::SearchResult search,
          resolve_map(graph, request.map, request.cost_table,
                      images.set.count() == 0 ? nullptr : &images.set));
  converted->summary.push_back(describe(search));
  if (search.map.method == "eagl" && search.map.checkpoint == "ptq")
    converted->summary.emplace_back(
        "note: entropies are of weights quantised here; the method was stated for a trained 4-bit "
        "network");
  if (!request.pareto.empty())
    MPQ_CHECK(write_text(request.pareto, frontier_json(search).dump(2) + "\n"));
  return search;
}

Result<PtqReport> quantise(const ConvertRequest& request, const precision::SearchResult& search,
                           const CalibrationData& calibration, Graph* graph, Json* report) {
  PtqOptions options;
  Progress progress("quantising", request.quiet);
  options.progress = [&](uint32_t done, uint32_t total, const std::string& layer) {
    progress.update(done, total, layer);
    return true;
  };
  MPQ_TRY(PtqReport ptq, quantize(graph, bits_of_map(search.map), calibration, options));
  (*report)["quantisation"] = report_of(ptq, search);
  return ptq;
}

}  // namespace mpq::convert::cli
