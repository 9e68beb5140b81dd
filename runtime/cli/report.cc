#include "runtime/cli/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "runtime/cli/model_facts.h"
#include "runtime/cli/npy.h"
#include "runtime/cli/text.h"

namespace mpq::cli {

namespace {

struct OutputName {
  const char* name;
  Output output;
};
constexpr OutputName kOutputs[] = {{"text", Output::kText},       {"json", Output::kJson},
                                   {"jsonl", Output::kJsonLines}, {"csv", Output::kCsv},
                                   {"md", Output::kMarkdown},     {"markdown", Output::kMarkdown}};

}  // namespace

Result<Report> Report::create(const Args& args, std::initializer_list<Output> supported) {
  Report report;
  const std::string name = args.text("format");
  const auto* const found = std::find_if(std::begin(kOutputs), std::end(kOutputs),
                                         [&](const OutputName& o) { return name == o.name; });
  if (found == std::end(kOutputs))
    return Error{Status::kInvalidArgument, "--format " + name + ": text, json, jsonl, csv or md"};
  report.output_ = found->output;
  report.json_path_ = args.text("json");
  if (args.has("json") && report.json_path_.empty()) report.output_ = Output::kJson;
  if (std::find(supported.begin(), supported.end(), report.output_) == supported.end())
    return Error{Status::kInvalidArgument,
                 std::string(mode_name(args.mode())) + " does not write " + name};
  return report;
}

void Report::print_always(const std::string& text) const { std::fputs(text.c_str(), stdout); }

void Report::print(const std::string& text) const {
  if (output_ == Output::kText) print_always(text);
}

void Report::print(const Table& table) const {
  if (tables()) print_always(table.render(output_));
}

void Report::print_line(const Json& row) const {
  if (output_ != Output::kJsonLines) return;
  print_always(row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  std::fflush(stdout);
}

Checked Report::finish(const Json& document) const {
  if (!wants_json()) return Ok{};
  const std::string text = document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (output_ == Output::kJson) print_always(text);
  if (!json_path_.empty()) return write_file(json_path_, text);
  return Ok{};
}

Json json_head(const Args& args, const Model* model) {
  Json head = {
      {"schema_version", kSchemaVersion},
      {"tool",
       {{"name", "mpqrun"}, {"version", mpq_version_string()}, {"build", mpq_build_info()}}},
      {"verb", mode_name(args.mode())},
      {"argv", args.words()},
      {"time", utc_now()},
      {"host", to_json(inspect_host())}};
  if (model != nullptr) head["model"] = model_json(*model);
  return head;
}

Json json_of(const Stats& seconds, bool samples) {
  const auto ns = [](double s) { return static_cast<int64_t>(std::llround(s * 1e9)); };
  Json json = {{"n", seconds.n},           {"min", ns(seconds.min)},
               {"mean", ns(seconds.mean)}, {"median", ns(seconds.median)},
               {"sd", ns(seconds.sd)},     {"max", ns(seconds.max)}};
  for (const auto& [p, name] : {std::pair{10.0, "p10"},
                                {50.0, "p50"},
                                {90.0, "p90"},
                                {95.0, "p95"},
                                {99.0, "p99"},
                                {99.9, "p99_9"}})
    if (seconds.supports(p)) json[name] = ns(seconds.percentile(p));
  if (samples) {
    Json list = Json::array();
    for (const double s : seconds.sorted) list.push_back(ns(s));
    json["sorted_samples"] = std::move(list);
  }
  return json;
}

}  // namespace mpq::cli
