#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "converter/cli/convert.h"
#include "converter/cli/input.h"
#include "converter/cli/quantise.h"
#include "converter/cli/texts.h"
#include "converter/data/text_dataset.h"
#include "converter/transformer/tokenizer_files.h"

namespace mpq::convert::cli {
namespace {

using Json = nlohmann::ordered_json;

bool is_embedding_model(const Graph& graph) {
  const int last = producer(graph, graph.outputs[0]);
  return last >= 0 &&
         std::holds_alternative<SequencePool>(graph.nodes[static_cast<size_t>(last)].op);
}

Result<format::PrecisionMap> quantise_texts(const ConvertRequest& request,
                                            const text::Tokenizer& tokenizer, Graph* graph,
                                            Converted* converted, Json* report) {
  if (!data::is_text_dataset(request.calib))
    return Error{Status::kInvalidArgument,
                 request.input +
                     ": takes texts; give some to calibrate on, such as --calib "
                     "txt:FILE (a text a line) or stsb:FILE" +
                     (request.calib.empty() ? "" : ", not '" + request.calib + "'")};
  constexpr uint32_t kDefault = 1024;
  const uint32_t count = request.calib_samples == 0 ? kDefault : request.calib_samples;
  MPQ_TRY(precision::SearchResult search, choose_map(request, *graph, converted));
  MPQ_TRY(const SequenceData texts, load_texts(request.calib, count, request.seed, tokenizer,
                                               !is_embedding_model(*graph), *graph));
  const Graph real = request.tune ? *graph : Graph();
  MPQ_TRY(
      const PtqReport ptq,
      quantise(request, search, {.samples = {}, .count = 0, .sequences = &texts}, graph, report));
  converted->summary.push_back(fmt::format(
      "quantised on {} texts of {} tokens: {:.1f} dB at the output, cosine {:.4f} with float",
      texts.count(), texts.tokens(), ptq.output_sqnr, ptq.cosine));
  if (request.tune) MPQ_CHECK(request.tune(real, tokenizer, graph));
  (*report)["calibration_texts"] = texts.count();
  (*report)["calibration_tokens"] = texts.tokens();
  return std::move(search.map);
}

}  // namespace

Result<Converted> convert_encoder(const ConvertRequest& request, Json* report) {
  MPQ_TRY(Network network, load_network(request.input, request.network));
  return convert_texts(request, std::move(network), report);
}

Result<Converted> convert_texts(const ConvertRequest& request, Network network, Json* report) {
  if (request.accumulators)
    return Error{Status::kInvalidArgument, request.input +
                                               ": --accumulators is for classifiers of "
                                               "images"};
  if (network.is_quantised)
    return Error{Status::kUnsupported,
                 request.input + ": is quantised already; give the network of texts in float"};
  MPQ_TRY(const transformer::TokenizerFiles files, transformer::read_tokenizer(network.tokenizer));
  MPQ_TRY(const text::Tokenizer tokenizer,
          text::Tokenizer::create(files.settings, files.vocabulary));
  const auto tokens =
      static_cast<size_t>(std::count(files.vocabulary.begin(), files.vocabulary.end(), '\n'));
  if (tokens > network.words())
    return Error{Status::kCorrupt, fmt::format("{}: {} tokens, the network has words for {}",
                                               request.input, tokens, network.words())};
  Converted converted;
  converted.summary = network.notes;
  MPQ_TRY(format::PrecisionMap map,
          quantise_texts(request, tokenizer, &network.graph, &converted, report));
  map.source_sha256 = network.source_sha256;
  MPQ_TRY(converted.lowered, lower(network.graph, {}));
  format::Model& model = converted.lowered.model;
  MPQ_CHECK(name_parts(&map, model));
  model.map = std::move(map);
  model.has_text_preprocess = true;
  model.text = files.settings;
  const auto* const begin = reinterpret_cast<const std::byte*>(files.vocabulary.data());
  converted.lowered.storage.emplace_back(begin, begin + files.vocabulary.size());
  model.vocabulary = converted.lowered.storage.back();
  model.labels = network.labels;
  if (!request.labels.empty()) {
    MPQ_TRY(model.labels, read_labels(request.labels));
  }
  return converted;
}

}  // namespace mpq::convert::cli
