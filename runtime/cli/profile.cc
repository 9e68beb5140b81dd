// mpqrun MODEL --profile: where the time goes.
#include <algorithm>
#include <cmath>
#include <map>

#include "runtime/cli/counters.h"
#include "runtime/cli/inputs.h"
#include "runtime/cli/layers.h"
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
constexpr size_t kTracedRuns = 20, kCountedRuns = 10;
constexpr size_t kL2Block = size_t{1} << 20;  // stays in the second level of caches
// A layer of less is not worth a gate: a few microseconds more or less are in it by chance.
constexpr double kLeastGatedShare = 0.01;

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
    found->least += line.least;
    found->macs += line.macs;
    found->weight_bytes += line.weight_bytes;
    found->activation_bytes += line.activation_bytes;
    found->counters.resize(line.counters.size());
    for (size_t i = 0; i < line.counters.size(); ++i) found->counters[i] += line.counters[i];
    found->steps += line.steps;
    found->fallbacks += line.fallbacks;
  }
  return groups;
}

Table table_of(const Profile& profile, const std::vector<Line>& lines, double total, bool groups) {
  const double peak = profile.roof.ops_per_second;
  Table table;
  table.columns =
      groups ? std::vector<Table::Column>{{"group", false}, {"steps"}}
             : std::vector<Table::Column>{{"layer", false}, {"op", false}, {"bits", false}};
  for (const char* name : {"us", "share %", "MOP", "TOPS", "peak %", "kB", "GB/s"})
    table.columns.push_back({name});
  for (const std::string& event : profile.events) table.columns.push_back({event});
  if (profile.compares && !groups) table.columns.push_back({"change"});
  if (!groups) table.columns.push_back({"kernel", false});
  for (const Line& line : lines) {
    std::vector<std::string> row =
        groups ? std::vector<std::string>{line.name, std::to_string(line.steps)}
               : std::vector<std::string>{line.name, line.op, line.bits};
    const bool works = line.macs != 0;
    row.push_back(format("%.1f", line.seconds * 1e6));
    row.push_back(format("%.1f", total > 0 ? line.seconds / total * 100 : 0.0));
    row.push_back(works ? format("%.1f", 2e-6 * static_cast<double>(line.macs)) : "-");
    row.push_back(works ? format("%.3f", line.tops()) : "-");
    row.push_back(works && peak > 0 ? format("%.0f", line.tops() * 1e12 / peak * 100) : "-");
    row.push_back(format("%.0f", static_cast<double>(line.bytes()) * 1e-3));
    row.push_back(line.seconds > 0
                      ? format("%.1f", static_cast<double>(line.bytes()) / line.seconds * 1e-9)
                      : "-");
    for (size_t i = 0; i < profile.events.size(); ++i)
      row.push_back(i < line.counters.size() ? std::to_string(line.counters[i]) : "-");
    if (profile.compares && !groups) row.push_back(line.change.text());
    if (!groups) row.push_back(line.kernel + (line.fallbacks != 0 ? " (fallback)" : ""));
    table.rows.push_back(std::move(row));
  }
  return table;
}

Json json_of(const Profile& profile, const Line& line, double total) {
  const double peak = profile.roof.ops_per_second;
  Json json = {{"name", line.name},
               {"op", line.op},
               {"bits", line.bits},
               {"kernel", line.kernel},
               {"steps", line.steps},
               {"fallback", line.fallbacks != 0},
               {"time_ns", std::llround(line.seconds * 1e9)},
               {"least_ns", std::llround(line.least * 1e9)},
               {"noise", line.timing.noise},
               {"share", total > 0 ? line.seconds / total : 0.0},
               {"macs", line.macs},
               {"bytes", line.bytes()},
               {"weight_bytes", line.weight_bytes},
               {"ops_per_second", line.tops() * 1e12}};
  if (peak > 0) json["of_peak"] = line.tops() * 1e12 / peak;
  if (profile.roof.weight_bytes_per_second > 0)
    json["floor_ns"] = std::llround(profile.roof.floor_seconds(line) * 1e9);
  for (size_t i = 0; i < line.counters.size(); ++i)
    json["counters"][profile.events[i]] = line.counters[i];
  if (!std::isnan(line.change.change)) json["change_from_baseline"] = line.change.change;
  return json;
}

// Runs of a session of their own, so that reading counters between steps takes no time from those
// that are timed; the least of each count, since disturbances only add. Returns why nothing was
// counted, or which events were not, or nothing.
struct CountedSteps {
  Counters* counters;
  std::vector<uint64_t> before;
  std::vector<std::vector<uint64_t>> least;  // of each step, each event

  static void done(void* user, size_t step) {
    auto& self = *static_cast<CountedSteps*>(user);
    const std::vector<uint64_t> now = self.counters->read();
    std::vector<uint64_t>& least = self.least[step];
    least.resize(now.size(), UINT64_MAX);
    for (size_t i = 0; i < now.size(); ++i) least[i] = std::min(least[i], now[i] - self.before[i]);
    self.before = self.counters->read();
  }
};

Result<std::string> count_steps(const Model& model, SessionSpec spec, const Args& args,
                                const std::vector<Sample>& samples, Profile* profile) {
  Counters counters(hardware_events());
  if (counters.events().empty()) return counters.why();
  CountedSteps steps{&counters, {}, {}};
  spec.profile = false;
  spec.step_done = CountedSteps::done;
  spec.step_done_user = &steps;
  MPQ_TRY(Session session, Session::create(model, spec, args));
  steps.least.resize(mpq_session_step_count(session.get()));
  if (steps.least.size() != profile->lines.size()) return std::string("other steps than timed");
  for (size_t run = 0; run < kCountedRuns && !interrupted(); ++run) {
    MPQ_CHECK(fill(&session, samples, run * session.batch()));
    steps.before = counters.read();
    MPQ_CHECK(session.run());
  }
  for (const CounterEvent& event : counters.events()) profile->events.emplace_back(event.name);
  for (size_t i = 0; i < steps.least.size(); ++i)
    profile->lines[i].counters = std::move(steps.least[i]);
  std::string why = counters.why();
  if (counters.shared())
    why += (why.empty() ? "" : "; ") +
           std::string("counted part of the time only: others use the counters, too");
  return why;
}

// Finds the baseline's layers by name and op, and says what became slower.
std::vector<std::string> compare_with(const Json& baseline, double limit, Profile* profile) {
  std::vector<std::string> slower;
  const auto judge = [&](const std::string& name, const Change& change, double share) {
    if (change.slower(limit) && share >= kLeastGatedShare)
      slower.push_back(
          format("%s: %s, noise %.1f %%", name.c_str(), change.text().c_str(), change.noise * 100));
  };
  if (baseline.contains("run_ns")) {
    const Change whole = change_between(timing_of(baseline["run_ns"]), timing_of(profile->run));
    profile->facts.push_back("beside the baseline: " + whole.text() +
                             format(", noise %.1f %%", whole.noise * 100));
    judge("the whole", whole, 1.0);
  }
  for (Line& line : profile->lines)
    for (const Json& old : baseline["layers"])
      if (old.value("name", "") == line.name && old.value("op", "") == line.op) {
        const Timing then = {old.value("least_ns", 0.0), old.value("noise", 0.0)};
        line.change = change_between(then, line.timing);
        judge(line.name, line.change, line.least / profile->run.min);
        break;
      }
  return slower;
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
  const bool compares = args.has("baseline");
  MPQ_TRY(const double allowed, allowed_change(args));
  Json baseline;
  if (compares) {
    MPQ_TRY(baseline, load_baseline(args, "layers"));
  }
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

  Profile profile;
  double steps_total = 0.0;
  uint64_t weight_bytes = 0;
  const std::vector<mpq_step_info> steps = session.steps();
  if (args.has("trace")) MPQ_CHECK(write_trace(args.text("trace"), traced, steps, path));
  for (size_t i = 0; i < steps.size(); ++i) {
    const mpq_step_info& step = steps[i];
    const Stats time = summarise(std::move(times[i]));
    Line line;
    line.name = step.name;
    line.op = step.op;
    line.bits = bits_of(step);
    line.kernel = step.kernel;
    line.seconds = time.median;
    line.least = time.min;
    line.timing = timing_of(time);
    line.macs = step.macs;
    line.weight_bytes = step.weight_bytes;
    line.activation_bytes = step.activation_bytes;
    line.steps = 1;
    line.fallbacks = step.fallback;
    steps_total += line.seconds;
    weight_bytes += line.weight_bytes;
    profile.lines.push_back(std::move(line));
  }
  profile.run = summarise(std::move(whole));
  const Stats& run = profile.run;
  const double peak = peak_ops_per_second(mpq_session_isa(session.get()), session.threads());
  profile.roof.ops_per_second = peak;
  if (args.has("html")) {
    profile.roof.weight_bytes_per_second = read_bytes_per_second(weight_bytes, session.threads());
    profile.roof.activation_bytes_per_second =
        read_bytes_per_second(kL2Block * session.threads(), session.threads());
  }
  std::string uncounted;
  if (args.has("counters")) {
    MPQ_TRY(uncounted, count_steps(model, spec, args, samples, &profile));
  }
  profile.compares = compares;
  std::vector<std::string> slower;
  if (compares) slower = compare_with(baseline, allowed, &profile);

  std::vector<Line> lines = by == "layer" ? profile.lines : grouped(profile.lines, key->field);
  if (sort == "time")
    std::stable_sort(lines.begin(), lines.end(),
                     [](const Line& a, const Line& b) { return a.seconds > b.seconds; });
  Line sum;
  sum.seconds = run.median;
  for (const Line& line : lines) sum.macs += line.macs;
  report.print(table_of(profile, lines, run.median, by != "layer"));
  report.print(
      format("\n%zu runs, batch %u, %u threads, %s: median %.3f ms, of which steps %.3f ms, "
             "between them %.3f ms\n",
             run.n, session.batch(), session.threads(), session.isa().c_str(), run.median * 1e3,
             steps_total * 1e3, (run.median - steps_total) * 1e3));
  report.print(format("%.2f GOP at %.3f TOPS", 2e-9 * static_cast<double>(sum.macs), sum.tops()));
  if (peak > 0)
    report.print(format(", %.0f %% of the measured 8-bit peak of %.2f TOPS",
                        sum.tops() * 1e12 / peak * 100, peak * 1e-12));
  report.print(
      "\nus: median; MOP: 10^6 multiplies and adds; kB: weights as packed, activations read and "
      "written\n");
  for (const std::string& fact : profile.facts) report.print(fact + "; change: of the least\n");
  if (!profile.events.empty()) report.print("counters: of one run, the least of ten\n");
  if (!uncounted.empty()) warn("not counted: " + uncounted);
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
  if (args.has("counters"))
    document["counters"] = {{"events", profile.events}, {"not_counted", uncounted}};
  document["layers"] = Json::array();
  for (const Line& line : lines) document["layers"].push_back(json_of(profile, line, run.median));
  MPQ_CHECK(report.finish(document));

  if (args.has("html")) {
    const Host host = inspect_host();
    profile.title = mpq_model_name(model.get());
    if (profile.title.empty()) profile.title = path;
    profile.facts.insert(
        profile.facts.begin(),
        {format("%s, %s, SHA-256 %s", path.c_str(),
                bytes_text(mpq_model_bytes(model.get())).c_str(), model.sha256().c_str()),
         host.cpu + ", " + host.kernel + ", " + session.isa(),
         format("batch %u, %u threads, %zu runs: least %.3f ms, median %.3f ms", session.batch(),
                session.threads(), run.n, run.min * 1e3, run.median * 1e3),
         "mpq " + std::string(mpq_version_string()) + ", " + utc_now()});
    if (!uncounted.empty()) profile.facts.push_back("not counted: " + uncounted);
    MPQ_CHECK(write_profile_page(args.text("html"), profile));
  }
  for (const std::string& line : slower)
    complain(format("slower than %s by more than %.3g %%: ", args.text("baseline").c_str(),
                    allowed * 100) +
             line);
  return slower.empty() ? kExitOk : kExitSpeed;
}

}  // namespace mpq::cli
