// mpqrun MODEL --profile: where the time goes.
#include <algorithm>
#include <cmath>
#include <map>

#include "runtime/cli/inputs.h"
#include "runtime/cli/model_facts.h"
#include "runtime/cli/peak.h"
#include "runtime/cli/report.h"
#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"
#include "runtime/cli/trace.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {

namespace {

constexpr uint64_t kDefaultRuns = 50;
constexpr size_t kTracedRuns = 20;

struct Line {
  std::string name, op, bits, kernel;
  double seconds = 0.0;  // median of the runs; of groups: the sum of medians
  uint64_t macs = 0, bytes = 0, steps = 0, fallbacks = 0;
};

std::string bits_of(const mpq_step_info& step) {
  std::string text = step.weight_bits != 0 ? bits_text(step.weight_bits, step.input_bits)
                                           : "a" + std::to_string(step.input_bits);
  return text + ">" + std::to_string(step.output_bits);
}

struct GroupKey {
  const char* name;
  const std::string Line::*field;
};
constexpr GroupKey kGroupKeys[] = {
    {"op", &Line::op}, {"bits", &Line::bits}, {"kernel", &Line::kernel}};

std::vector<Line> grouped(const std::vector<Line>& lines, const std::string Line::*field) {
  std::vector<Line> groups;
  for (const Line& line : lines) {
    auto found = std::find_if(groups.begin(), groups.end(),
                              [&](const Line& g) { return g.name == line.*field; });
    if (found == groups.end()) {
      groups.push_back({});
      found = groups.end() - 1;
      found->name = line.*field;
    }
    found->seconds += line.seconds;
    found->macs += line.macs;
    found->bytes += line.bytes;
    found->steps += line.steps;
    found->fallbacks += line.fallbacks;
  }
  return groups;
}

double tops(const Line& line) {
  return line.seconds > 0 ? 2.0 * static_cast<double>(line.macs) / line.seconds * 1e-12 : 0.0;
}

Table table_of(const std::vector<Line>& lines, double total, double peak, bool groups) {
  Table table;
  table.columns =
      groups ? std::vector<Table::Column>{{"group", false}, {"steps"}}
             : std::vector<Table::Column>{{"layer", false}, {"op", false}, {"bits", false}};
  for (const char* name : {"us", "share %", "MOP", "TOPS", "peak %", "kB", "GB/s"})
    table.columns.push_back({name});
  if (!groups) table.columns.push_back({"kernel", false});
  for (const Line& line : lines) {
    std::vector<std::string> row =
        groups ? std::vector<std::string>{line.name, std::to_string(line.steps)}
               : std::vector<std::string>{line.name, line.op, line.bits};
    const bool works = line.macs != 0;
    row.push_back(format("%.1f", line.seconds * 1e6));
    row.push_back(format("%.1f", total > 0 ? line.seconds / total * 100 : 0.0));
    row.push_back(works ? format("%.1f", 2e-6 * static_cast<double>(line.macs)) : "-");
    row.push_back(works ? format("%.3f", tops(line)) : "-");
    row.push_back(works && peak > 0 ? format("%.0f", tops(line) * 1e12 / peak * 100) : "-");
    row.push_back(format("%.0f", static_cast<double>(line.bytes) * 1e-3));
    row.push_back(line.seconds > 0
                      ? format("%.1f", static_cast<double>(line.bytes) / line.seconds * 1e-9)
                      : "-");
    if (!groups) row.push_back(line.kernel + (line.fallbacks != 0 ? " (fallback)" : ""));
    table.rows.push_back(std::move(row));
  }
  return table;
}

Json json_of(const Line& line, double total, double peak) {
  Json json = {{"name", line.name},
               {"op", line.op},
               {"bits", line.bits},
               {"kernel", line.kernel},
               {"steps", line.steps},
               {"fallback", line.fallbacks != 0},
               {"time_ns", std::llround(line.seconds * 1e9)},
               {"share", total > 0 ? line.seconds / total : 0.0},
               {"macs", line.macs},
               {"bytes", line.bytes},
               {"ops_per_second", tops(line) * 1e12}};
  if (peak > 0) json["of_peak"] = tops(line) * 1e12 / peak;
  return json;
}

}  // namespace

Result<ExitCode> run_profile(const Args& args) {
  MPQ_TRY(const Report report,
          Report::create(args, {Output::kText, Output::kJson, Output::kCsv, Output::kMarkdown}));
  MPQ_TRY(const std::string path, model_path(args));
  const std::string by = args.text("by"), sort = args.text("sort");
  const auto* const key = std::find_if(std::begin(kGroupKeys), std::end(kGroupKeys),
                                       [&](const GroupKey& k) { return by == k.name; });
  if (by != "layer" && key == std::end(kGroupKeys))
    return Error{Status::kInvalidArgument, "--by " + by + ": layer, op, bits or kernel"};
  if (sort != "layer" && sort != "time")
    return Error{Status::kInvalidArgument, "--sort " + sort + ": time or layer"};
  MPQ_TRY(const double warmup, args.real("warmup"));
  MPQ_TRY(uint64_t runs, args.whole("iterations"));
  if (runs == 0) runs = kDefaultRuns;
  MPQ_TRY(const uint64_t distinct, args.whole("distinct"));
  SessionSpec spec;
  MPQ_TRY(spec.batch, single(args, "batch"));
  MPQ_TRY(spec.threads, single(args, "threads"));
  spec.isa = args.text("isa");
  spec.profile = true;
  MPQ_TRY(const Model model, Model::open(path, args));
  uint32_t tokens = 0;
  if (model.sequence_length() != 0) {
    constexpr uint32_t kUsual = 128;
    tokens = std::min(kUsual, model.sequence_length());
    if (args.has("seq-len")) {
      MPQ_TRY(tokens, single(args, "seq-len"));
    }
    if (tokens == 0 || tokens > model.sequence_length())
      return Error{Status::kInvalidArgument, format("--seq-len %u: the model takes 1 to %u tokens",
                                                    tokens, model.sequence_length())};
  }
  MPQ_TRY(const std::vector<Sample> samples,
          gather_samples(model, args, std::max<uint64_t>(distinct, 1), tokens));
  MPQ_TRY(Session session, Session::create(model, spec, args));

  std::vector<double> whole;
  std::vector<TracedRun> traced;
  Clock::time_point first_run;
  std::vector<std::vector<double>> times(mpq_session_step_count(session.get()));
  Progress progress(args, "profile", runs);
  const Clock::time_point warm = Clock::now();
  size_t turn = 0;
  for (bool measuring = false; whole.size() < runs && !interrupted();) {
    MPQ_CHECK(fill(&session, samples, turn++ * session.batch()));
    const Clock::time_point start = Clock::now();
    MPQ_CHECK(session.run());
    const double seconds = seconds_since(start);
    if (measuring) {
      if (whole.empty()) first_run = start;
      whole.push_back(seconds);
      const std::vector<mpq_step_info> steps = session.steps();
      TracedRun run{std::chrono::duration<double>(start - first_run).count(), seconds, {}};
      for (size_t i = 0; i < steps.size(); ++i) {
        times[i].push_back(static_cast<double>(steps[i].last_ns) * 1e-9);
        run.steps.push_back(times[i].back());
      }
      if (traced.size() < kTracedRuns) traced.push_back(std::move(run));
      progress.update(whole.size());
    }
    measuring = measuring || seconds_since(warm) >= warmup;
  }

  std::vector<Line> lines;
  double steps_total = 0.0;
  const std::vector<mpq_step_info> steps = session.steps();
  if (args.has("trace")) MPQ_CHECK(write_trace(args.text("trace"), traced, steps, path));
  for (size_t i = 0; i < steps.size(); ++i) {
    const mpq_step_info& step = steps[i];
    lines.push_back({step.name, step.op, bits_of(step), step.kernel, summarise(times[i]).median,
                     step.macs, step.weight_bytes + step.activation_bytes, 1, step.fallback});
    steps_total += lines.back().seconds;
  }
  if (by != "layer") lines = grouped(lines, key->field);
  if (sort == "time")
    std::stable_sort(lines.begin(), lines.end(),
                     [](const Line& a, const Line& b) { return a.seconds > b.seconds; });

  const double peak = peak_ops_per_second(mpq_session_isa(session.get()), session.threads());
  const Stats run = summarise(std::move(whole));
  Line sum;
  sum.seconds = run.median;
  for (const Line& line : lines) sum.macs += line.macs;
  report.print(table_of(lines, run.median, peak, by != "layer"));
  report.print(
      format("\n%zu runs, batch %u, %u threads, %s: median %.3f ms, of which steps %.3f ms, "
             "between them %.3f ms\n",
             run.n, session.batch(), session.threads(), session.isa().c_str(), run.median * 1e3,
             steps_total * 1e3, (run.median - steps_total) * 1e3));
  report.print(format("%.2f GOP at %.3f TOPS", 2e-9 * static_cast<double>(sum.macs), tops(sum)));
  if (peak > 0)
    report.print(format(", %.0f %% of the measured 8-bit peak of %.2f TOPS",
                        tops(sum) * 1e12 / peak * 100, peak * 1e-12));
  report.print(
      "\nus: median; MOP: 10^6 multiplies and adds; kB: weights as packed, activations read and "
      "written\n");
  if (run.variation() > 0.05)
    warn(format("noisy: standard deviation %.1f %% of the mean", run.variation() * 100));

  Json document = json_head(args, &model);
  document["configuration"] = {{"batch", session.batch()},
                               {"threads", session.threads()},
                               {"isa", session.isa()},
                               {"by", by}};
  document["run_ns"] = json_of(run, false);
  document["steps_ns"] = std::llround(steps_total * 1e9);
  document["peak_ops_per_second"] = peak;
  document["layers"] = Json::array();
  for (const Line& line : lines) document["layers"].push_back(json_of(line, run.median, peak));
  MPQ_CHECK(report.finish(document));
  return kExitOk;
}

}  // namespace mpq::cli
