// mpqconvert reconstruct, of a network of texts: all layers together, on hidden states.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "converter/cli/convert.h"
#include "converter/cli/output.h"
#include "converter/cli/progress.h"
#include "converter/cli/reconstruct.h"
#include "converter/cli/texts.h"
#include "converter/data/write_file.h"
#include "converter/train/distil.h"
#include "format/writer.h"

namespace mpq::convert::cli {
namespace {

// A sentence encoder ends in a pooling and takes one text at a time.
bool takes_pairs(const Graph& graph) {
  const int last = producer(graph, graph.outputs[0]);
  return last < 0 ||
         !std::holds_alternative<SequencePool>(graph.nodes[static_cast<size_t>(last)].op);
}

train::DistilOptions distil_options(const ReconstructRequest& request) {
  const train::ReconstructOptions& given = request.options;
  train::DistilOptions options;
  options.batch = given.batch;
  options.steps = given.steps;
  options.schedule = given.schedule;
  options.optimizer = given.optimizer;
  options.seed = given.seed;
  options.checkpoint = given.checkpoint;
  options.hidden_share = request.whole.hidden_share;
  options.bfloat16 = given.bfloat16;
  return options;
}

}  // namespace

Checked reconstruct_texts(const ReconstructRequest& request, Network network,
                          const Global& global) {
  if (request.output.empty() || !request.onnx.empty() || !request.start.empty())
    return Error{Status::kInvalidArgument,
                 request.input +
                     ": a network of texts is written with -o, and quantised here: "
                     "without --onnx and --start"};
  train::DistilReport learned;
  size_t texts = 0;
  ConvertRequest convert;
  convert.input = request.input;
  convert.network = request.network;
  convert.map = request.map;
  convert.cost_table = request.cost_table;
  convert.calib = request.calib;
  convert.calib_samples = request.ptq_samples;
  convert.seed = request.options.seed;
  convert.quiet = global.quiet;
  convert.tune = [&](const Graph& real, const text::Tokenizer& tokenizer,
                     Graph* quantised) -> Checked {
    if (request.options.steps == 0) return Ok{};
    MPQ_TRY(const SequenceData data,
            load_texts(request.calib, request.samples, request.options.seed, tokenizer,
                       takes_pairs(real), real));
    texts = data.count();
    train::DistilOptions options = distil_options(request);
    Progress progress("reconstructing", global.quiet);
    options.progress = [&](uint64_t step, double loss) {
      progress.update(step, options.steps, fmt::format("error {:.5f}", loss));
      return true;
    };
    MPQ_TRY(learned, train::distil(real, quantised, data, options));
    return Ok{};
  };
  nlohmann::ordered_json report;
  MPQ_TRY(Converted converted, convert_texts(convert, std::move(network), &report));
  format::Model& model = converted.lowered.model;
  model.producer = "mpqconvert " MPQ_VERSION;
  MPQ_TRY(const std::vector<std::byte> bytes, format::write(model));
  MPQ_CHECK(data::write_file(request.output, bytes));

  nlohmann::ordered_json json = {{"schema_version", 1},
                                 {"texts", texts},
                                 {"before", learned.before},
                                 {"after", learned.after}};
  if (global.json) return write_text("-", json.dump(2) + "\n");
  if (global.quiet) return Ok{};
  for (const std::string& line : converted.summary) fmt::print("{}\n", line);
  fmt::print("trained on {} texts: error {:.5f} -> {:.5f}\n", texts, learned.before, learned.after);
  return Ok{};
}

}  // namespace mpq::convert::cli
