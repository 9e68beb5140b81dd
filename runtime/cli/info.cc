// mpqrun info MODEL: what is in a file.
#include <map>

#include "runtime/cli/model_facts.h"
#include "runtime/cli/report.h"
#include "runtime/cli/text.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {

namespace {

double share(uint64_t part, uint64_t whole) {
  return whole != 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}
const char* or_empty(const char* text) { return text == nullptr ? "" : text; }

std::string preprocess_text(const mpq_image_preprocess& p) {
  constexpr const char* kResize[] = {"none", "bilinear", "bicubic", "area"};
  const char* const resize = p.resize < std::size(kResize) ? kResize[p.resize] : "unknown";
  return format(
      "shorter side to %u (%s%s), centre %ux%u, mean %.3g %.3g %.3g, stddev %.3g %.3g %.3g",
      p.resize_shorter, resize, p.crop_only_small != 0 ? "; smaller images are only cut" : "",
      p.crop_w, p.crop_h, static_cast<double>(p.mean[0]), static_cast<double>(p.mean[1]),
      static_cast<double>(p.mean[2]), static_cast<double>(p.stddev[0]),
      static_cast<double>(p.stddev[1]), static_cast<double>(p.stddev[2]));
}

struct Prepacked {
  size_t layers = 0;
  uint64_t bytes = 0;
};

// By layout.
std::map<std::string, Prepacked> prepacked_of(const Model& model) {
  std::map<std::string, Prepacked> layouts;
  for (size_t i = 0; i < mpq_model_prepacked_count(model.get()); ++i) {
    mpq_prepacked_info info;
    MPQ_INIT(&info);
    if (mpq_model_prepacked_info(model.get(), i, &info) != MPQ_OK) continue;
    Prepacked& p = layouts[info.layout];
    ++p.layers;
    p.bytes += info.bytes;
  }
  return layouts;
}

// Only a map found by a search has a cost, a solver and a budget.
std::string map_text(const mpq_precision_map& map) {
  std::string text = or_empty(map.method);
  const auto add = [&](const char* before, const char* value, const char* after) {
    if (*value != '\0') text += std::string(", ") + before + value + after;
  };
  add("cost ", or_empty(map.cost_model), "");
  add("solver ", or_empty(map.solver), "");
  if (*or_empty(map.solver) != '\0') add("budget ", format("%.3g", map.budget).c_str(), "");
  add("", or_empty(map.checkpoint), " weights");
  return text;
}

std::string summary(const Model& model, const ModelFacts& facts) {
  std::string text;
  const auto line = [&text](const char* key, const std::string& value) {
    text += format("%-12s %s\n", key, value.c_str());
  };
  line("model", or_empty(mpq_model_name(model.get())));
  line("producer", or_empty(mpq_model_producer(model.get())));
  line("file", format("%s, %s, sha256 %s", model.path().c_str(),
                      bytes_text(mpq_model_bytes(model.get())).c_str(), model.sha256().c_str()));
  for (const TensorInfo& info : model.inputs()) line("input", to_string(info));
  for (const TensorInfo& info : model.outputs()) line("output", to_string(info));
  mpq_image_preprocess preprocess;
  MPQ_INIT(&preprocess);
  if (mpq_model_image_preprocess(model.get(), &preprocess) == MPQ_OK)
    line("images", preprocess_text(preprocess));
  if (model.sequence_length() != 0)
    line("sequences", format("up to %u tokens of %u words, %s", model.sequence_length(),
                             mpq_model_vocabulary_size(model.get()),
                             mpq_model_takes_text(model.get()) != 0 ? "from text (WordPiece)"
                                                                    : "without a vocabulary"));
  line("layers",
       format("%zu, of which %llu with weights: %.2f M weights, %.3f GMAC",
              mpq_model_node_count(model.get()), static_cast<unsigned long long>(facts.layers),
              static_cast<double>(facts.weights) * 1e-6, static_cast<double>(facts.macs) * 1e-9));
  for (const auto& [bits, s] : facts.bits)
    line("", format("%s: %3llu layers, %5.1f %% of weights, %5.1f %% of MACs", bits.c_str(),
                    static_cast<unsigned long long>(s.layers), share(s.weights, facts.weights),
                    share(s.macs, facts.macs)));
  mpq_precision_map map;
  MPQ_INIT(&map);
  if (mpq_model_precision_map(model.get(), &map) == MPQ_OK) line("map", map_text(map));
  for (const auto& [layout, p] : prepacked_of(model))
    line("prepacked",
         format("%s: %zu layers, %s", layout.c_str(), p.layers, bytes_text(p.bytes).c_str()));
  if (const size_t labels = mpq_model_label_count(model.get()); labels != 0)
    line("labels", format("%zu: %s, ...", labels, model.label(0).c_str()));
  for (size_t i = 0; i < mpq_model_metadata_count(model.get()); ++i)
    line("", std::string(or_empty(mpq_model_metadata_key(model.get(), i))) + ": " +
                 or_empty(mpq_model_metadata_value(model.get(), i)));
  return text;
}

Table layer_table(const std::vector<mpq_node_info>& nodes) {
  Table table{{{"#"},
               {"layer", false},
               {"op", false},
               {"in bits"},
               {"w bits"},
               {"out bits"},
               {"output", false},
               {"weights"},
               {"MMAC"}},
              {}};
  for (size_t i = 0; i < nodes.size(); ++i) {
    const mpq_node_info& node = nodes[i];
    const bool weighted = node.weight_bits != 0;
    table.rows.push_back(
        {std::to_string(i), node.name, node.op, std::to_string(node.input_bits),
         weighted ? std::to_string(node.weight_bits) : "-", std::to_string(node.output_bits),
         shape_text(node.shape, node.rank), weighted ? std::to_string(node.weights) : "-",
         node.macs != 0 ? format("%.2f", static_cast<double>(node.macs) * 1e-6) : "-"});
  }
  return table;
}

std::vector<mpq_precision_layer> map_layers(const Model& model) {
  mpq_precision_map map;
  MPQ_INIT(&map);
  std::vector<mpq_precision_layer> layers;
  if (mpq_model_precision_map(model.get(), &map) != MPQ_OK) return layers;
  for (size_t i = 0; i < map.layer_count; ++i) {
    mpq_precision_layer layer;
    MPQ_INIT(&layer);
    if (mpq_model_precision_layer(model.get(), i, &layer) == MPQ_OK) layers.push_back(layer);
  }
  return layers;
}

Table map_table(const std::vector<mpq_precision_layer>& layers) {
  Table table{{{"layer", false},
               {"w bits"},
               {"a bits"},
               {"group"},
               {"chosen", false},
               {"gain"},
               {"cost high"},
               {"cost low"}},
              {}};
  for (const mpq_precision_layer& layer : layers)
    table.rows.push_back({layer.node, std::to_string(layer.weight_bits),
                          std::to_string(layer.activation_bits), std::to_string(layer.group),
                          layer.fixed != 0 ? "fixed" : "by solver", format("%.6g", layer.gain),
                          format("%.6g", layer.cost_high), format("%.6g", layer.cost_low)});
  return table;
}

Table kernel_table(const std::vector<mpq_step_info>& steps) {
  Table table{{{"#"},
               {"layer", false},
               {"op", false},
               {"kernel", false},
               {"packed kB"},
               {"activations kB"}},
              {}};
  for (size_t i = 0; i < steps.size(); ++i)
    table.rows.push_back(
        {std::to_string(i), steps[i].name, steps[i].op,
         std::string(steps[i].kernel) + (steps[i].fallback != 0 ? " (fallback)" : ""),
         format("%.1f", static_cast<double>(steps[i].weight_bytes) * 1e-3),
         format("%.1f", static_cast<double>(steps[i].activation_bytes) * 1e-3)});
  return table;
}

Json json_of(const std::vector<TensorInfo>& infos) {
  Json list = Json::array();
  for (const TensorInfo& info : infos)
    list.push_back({{"name", info.name},
                    {"dtype", mpq_dtype_string(info.dtype)},
                    {"shape", info.shape},
                    {"bytes", info.bytes},
                    {"scale", info.scale},
                    {"zero_point", info.zero_point}});
  return list;
}

Json document_of(const Args& args, const Model& model, const std::vector<mpq_step_info>& steps) {
  Json document = json_head(args, &model);
  document["producer"] = or_empty(mpq_model_producer(model.get()));
  document["inputs"] = json_of(model.inputs());
  document["outputs"] = json_of(model.outputs());
  mpq_image_preprocess p;
  MPQ_INIT(&p);
  if (mpq_model_image_preprocess(model.get(), &p) == MPQ_OK)
    document["images"] = {{"resize", p.resize},
                          {"resize_shorter", p.resize_shorter},
                          {"crop_only_small", p.crop_only_small != 0},
                          {"crop_h", p.crop_h},
                          {"crop_w", p.crop_w},
                          {"mean", p.mean},
                          {"stddev", p.stddev}};
  if (model.sequence_length() != 0)
    document["sequences"] = {{"max_tokens", model.sequence_length()},
                             {"vocabulary_size", mpq_model_vocabulary_size(model.get())},
                             {"takes_text", mpq_model_takes_text(model.get()) != 0}};
  document["layers"] = Json::array();
  for (const mpq_node_info& node : model.nodes())
    document["layers"].push_back(
        {{"name", node.name},
         {"op", node.op},
         {"input_bits", node.input_bits},
         {"weight_bits", node.weight_bits},
         {"output_bits", node.output_bits},
         {"shape", std::vector<int64_t>(node.shape, node.shape + node.rank)},
         {"weights", node.weights},
         {"macs", node.macs}});
  mpq_precision_map map;
  MPQ_INIT(&map);
  if (mpq_model_precision_map(model.get(), &map) == MPQ_OK) {
    document["map"] = {{"method", or_empty(map.method)},
                       {"cost_model", or_empty(map.cost_model)},
                       {"solver", or_empty(map.solver)},
                       {"checkpoint", or_empty(map.checkpoint)},
                       {"source_sha256", or_empty(map.source_sha256)},
                       {"budget", map.budget},
                       {"value", map.value},
                       {"bound", map.bound},
                       {"seed", map.seed},
                       {"layers", Json::array()}};
    for (const mpq_precision_layer& layer : map_layers(model))
      document["map"]["layers"].push_back({{"node", layer.node},
                                           {"weight_bits", layer.weight_bits},
                                           {"activation_bits", layer.activation_bits},
                                           {"group", layer.group},
                                           {"fixed", layer.fixed != 0},
                                           {"gain", layer.gain},
                                           {"gain_stderr", layer.gain_stderr},
                                           {"cost_high", layer.cost_high},
                                           {"cost_low", layer.cost_low}});
  }
  for (const auto& [layout, sum] : prepacked_of(model))
    document["prepacked"][layout] = {{"layers", sum.layers}, {"bytes", sum.bytes}};
  for (size_t i = 0; i < mpq_model_metadata_count(model.get()); ++i)
    document["metadata"][or_empty(mpq_model_metadata_key(model.get(), i))] =
        or_empty(mpq_model_metadata_value(model.get(), i));
  if (!steps.empty()) document["kernels"] = Json::array();
  for (const mpq_step_info& step : steps)
    document["kernels"].push_back({{"layer", step.name},
                                   {"op", step.op},
                                   {"kernel", step.kernel},
                                   {"fallback", step.fallback != 0},
                                   {"weight_bytes", step.weight_bytes},
                                   {"activation_bytes", step.activation_bytes}});
  if (args.has("show-labels")) document["labels"] = model.labels();
  return document;
}

}  // namespace

Result<ExitCode> run_info(const Args& args) {
  MPQ_TRY(const Report report,
          Report::create(args, {Output::kText, Output::kJson, Output::kCsv, Output::kMarkdown}));
  MPQ_TRY(const std::string path, model_path(args));
  MPQ_TRY(const Model model, Model::open(path, args));
  std::vector<mpq_step_info> steps;
  std::optional<Session> session;  // owns the steps' texts
  if (args.has("kernels")) {
    SessionSpec spec;
    MPQ_TRY(spec.threads, single(args, "threads"));
    spec.isa = args.text("isa");
    MPQ_TRY(session, Session::create(model, spec, args));
    steps = session->steps();
  }
  const bool lists =
      args.has("layers") || args.has("map") || args.has("kernels") || args.has("show-labels");
  if (!lists) report.print(summary(model, facts_of(model)));
  if (args.has("layers") || (!lists && !report.text())) report.print(layer_table(model.nodes()));
  if (args.has("map")) report.print(map_table(map_layers(model)));
  if (args.has("kernels")) report.print(kernel_table(steps));
  if (args.has("show-labels"))
    for (const std::string& label : model.labels()) report.print(label + "\n");
  MPQ_CHECK(report.finish(document_of(args, model, steps)));
  return kExitOk;
}

}  // namespace mpq::cli
