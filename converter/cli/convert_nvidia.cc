#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "converter/cli/convert.h"
#include "converter/cli/input.h"
#include "converter/nvidia/import.h"

namespace mpq::convert::cli {

Result<Converted> convert_nvidia(const ConvertRequest& request, nlohmann::ordered_json* report) {
  nvidia::ImportOptions options{.accumulators = request.accumulators, .labels = {}};
  if (!request.labels.empty()) {
    MPQ_TRY(options.labels, read_labels(request.labels));
  }
  MPQ_TRY(nvidia::Imported imported, nvidia::import_release(request.input, options));

  uint64_t channels = 0, thresholds = 0, differing = 0;
  auto layers = nlohmann::ordered_json::array();
  for (const nvidia::LayerProof& proof : imported.proofs) {
    channels += proof.channels;
    thresholds += proof.thresholds;
    differing += proof.differing_channels;
    layers.push_back({{"name", proof.layer},
                      {"channels", proof.channels},
                      {"thresholds", proof.thresholds},
                      {"differing_channels", proof.differing_channels}});
  }
  (*report)["requantisation_proof"] = std::move(layers);

  Converted converted{std::move(imported.lowered), {}};
  converted.summary.push_back(fmt::format(
      "exact: {} thresholds of {} channels in {} layers agree with the source's integer rule",
      thresholds, channels - differing, imported.proofs.size()));
  if (differing > 0)
    converted.summary.push_back(fmt::format(
        "warning: {} channels have accumulators with another code than the source's", differing));
  return converted;
}

}  // namespace mpq::convert::cli
