// mpqrun MODEL --bench: latency and throughput over batches, threads and instruction sets.
#include <algorithm>
#include <cmath>
#include <map>

#include "runtime/cli/baseline.h"
#include "runtime/cli/inputs.h"
#include "runtime/cli/report.h"
#include "runtime/cli/streams.h"
#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {

namespace {

struct Limits {
  double warmup = 0.5, duration = 3.0;
  uint64_t iterations = 0;  // 0: as long as `duration`, at least kMinRuns
};
constexpr size_t kMinRuns = 10, kWarmupRuns = 3;
constexpr uint32_t kMaxStreams = 1024;
constexpr double kNoisy = 0.05;

struct Row {
  uint32_t batch = 0, threads = 0;
  bool sequences = false;
  uint32_t tokens = 0;       // of each sequence; 0: images, or sequences of different lengths
  double mean_tokens = 0.0;  // of the sequences that were run
  std::string isa;
  double create_seconds = 0.0, first_run_seconds = 0.0;
  uint32_t streams = 1;
  uint64_t own_bytes = 0, shared_bytes = 0;  // of all streams; weights
  double samples_per_second = 0.0;           // of all streams together
  Stats compute, with_copies;  // seconds of a run; and with inputs copied in and outputs copied out
  Change change;               // of the least compute time against the baseline
};

// One configuration. The two latencies come from the same runs.
Result<Row> measure(const Model& model, const SessionSpec& spec, uint32_t count,
                    const std::vector<Sample>& samples, const Limits& limits, const Args& args) {
  Row row;
  row.streams = count;
  MPQ_TRY(Streams streams, Streams::create(model, spec, count, args));
  const Session& session = streams.session();
  row.batch = session.batch();
  row.threads = session.threads();
  row.isa = session.isa();
  row.create_seconds = streams.create_seconds();
  row.own_bytes = streams.own_bytes();
  row.shared_bytes = streams.shared_bytes();

  const std::vector<Request> requests = make_requests(samples, row.batch);
  MPQ_TRY(const StreamTimes warm,
          streams.run(requests, {.seconds = limits.warmup, .least = kWarmupRuns}));
  if (warm.compute.empty()) return row;
  row.first_run_seconds = warm.compute.front();
  const Progress progress(args,
                          format("%u streams, batch %u, %u threads, %s", count, row.batch,
                                 row.threads, row.isa.c_str()),
                          limits.iterations);
  MPQ_TRY(StreamTimes times,
          streams.run(requests,
                      {.seconds = limits.duration, .least = kMinRuns, .runs = limits.iterations}));
  const auto samples_run = static_cast<double>(times.compute.size() * row.batch);
  if (times.compute.empty()) return row;
  row.samples_per_second = samples_run / times.wall;
  row.mean_tokens = static_cast<double>(times.tokens) / samples_run;
  row.compute = summarise(std::move(times.compute));
  row.with_copies = summarise(std::move(times.with_copies));
  return row;
}

// As many streams as give the most samples a second, found by short runs: 1, 2, 4 ... and one for
// every usable CPU.
Result<uint32_t> best_streams(const Model& model, const SessionSpec& spec,
                              const std::vector<Sample>& samples, const Args& args) {
  constexpr Limits kShort = {.warmup = 0.1, .duration = 0.5, .iterations = 0};
  const uint32_t most = std::max(mpq_default_threads() / std::max(spec.threads, 1U), 1U);
  uint32_t best = 1;
  double best_rate = 0.0;
  for (uint32_t count = 1; !interrupted(); count = std::min(count * 2, most)) {
    MPQ_TRY(const Row row, measure(model, spec, count, samples, kShort, args));
    note(format("--streams auto: %u of %u threads: %.1f/s", count, row.threads,
                row.samples_per_second));
    if (row.samples_per_second > best_rate) {
      best = count;
      best_rate = row.samples_per_second;
    }
    if (count == most) break;
  }
  return best;
}

std::string ms(double seconds) { return format("%.3f", seconds * 1e3); }

Table table_of(const std::vector<Row>& rows, bool baseline, bool sequences, bool streams) {
  Table table{{{"batch"},
               {"threads"},
               {"isa", false},
               {"runs"},
               {"min ms"},
               {"median"},
               {"mean"},
               {"p90"},
               {"p99"},
               {"sd %"},
               {"+copies"},
               {sequences ? "sequences/s" : "images/s"}},
              {}};
  if (sequences) table.columns.insert(table.columns.begin() + 1, {"tokens"});
  if (sequences) table.columns.push_back({"tokens/s"});
  if (streams) table.columns.insert(table.columns.begin(), {"streams"});
  if (streams) table.columns.push_back({"MB, weights"});
  if (baseline) table.columns.push_back({"change"});
  for (const Row& row : rows) {
    const auto percentile = [&row](double p) {
      return row.compute.supports(p) ? ms(row.compute.percentile(p)) : "-";
    };
    table.rows.push_back({std::to_string(row.batch), std::to_string(row.threads), row.isa,
                          std::to_string(row.compute.n), ms(row.compute.min),
                          ms(row.compute.median), ms(row.compute.mean), percentile(90),
                          percentile(99), format("%.1f", row.compute.variation() * 100),
                          ms(row.with_copies.median), format("%.1f", row.samples_per_second)});
    if (sequences) {
      std::vector<std::string>& cells = table.rows.back();
      cells.insert(cells.begin() + 1, row.tokens == 0 ? format("mean %.1f", row.mean_tokens)
                                                      : std::to_string(row.tokens));
      cells.push_back(format("%.0f", row.samples_per_second * row.mean_tokens));
    }
    if (streams) {
      std::vector<std::string>& cells = table.rows.back();
      cells.insert(cells.begin(), std::to_string(row.streams));
      cells.push_back(format("%.1f + %.1f", static_cast<double>(row.own_bytes) * 1e-6,
                             static_cast<double>(row.shared_bytes) * 1e-6));
    }
    if (baseline) table.rows.back().push_back(row.change.text());
  }
  return table;
}

Json json_of(const Row& row, bool samples) {
  Json json = {
      {"batch", row.batch},
      {"streams", row.streams},
      {"threads", row.threads},
      {"isa", row.isa},
      {"compute_ns", json_of(row.compute, samples)},
      {"with_copies_ns", json_of(row.with_copies, samples)},
      {"coefficient_of_variation", row.compute.variation()},
      {row.sequences ? "sequences_per_second" : "images_per_second", row.samples_per_second},
      {"session_create_ns", std::llround(row.create_seconds * 1e9)},
      {"first_run_ns", std::llround(row.first_run_seconds * 1e9)},
      {"session_memory_bytes", row.own_bytes + row.shared_bytes},
      {"weights_bytes", row.shared_bytes}};
  if (row.tokens != 0) json["tokens"] = row.tokens;
  if (row.sequences) json["mean_tokens"] = row.mean_tokens;
  if (!std::isnan(row.change.change)) {
    json["change_from_baseline"] = row.change.change;
    json["noise"] = row.change.noise;
  }
  return json;
}

// Against the baseline's row of the same configuration.
Change change_from(const Json& baseline, const Row& row) {
  for (const Json& old : baseline["results"])
    if (old.value("batch", 0U) == row.batch && old.value("threads", 0U) == row.threads &&
        old.value("isa", "") == row.isa && old.value("tokens", 0U) == row.tokens &&
        old.value("streams", 1U) == row.streams && old.contains("compute_ns"))
      return change_between(timing_of(old["compute_ns"]), timing_of(row.compute));
  return {};
}

// Lengths of random sequences to measure: one 0 for images, and where the user gives the inputs.
Result<std::vector<uint32_t>> token_counts(const Model& model, const Args& args) {
  const uint32_t longest = model.sequence_length();
  if (longest == 0 && args.has("seq-len"))
    return Error{Status::kInvalidArgument, model.path() +
                                               ": takes no sequences; --seq-len is for "
                                               "models of texts"};
  const bool given = args.has("input") || args.has("dataset");
  if (given && args.has("seq-len"))
    return Error{Status::kInvalidArgument,
                 "--seq-len: the inputs that are given have their length"};
  if (longest == 0 || given) return std::vector<uint32_t>{0};
  constexpr uint32_t kUsual = 128;
  if (!args.has("seq-len")) return std::vector<uint32_t>{std::min(kUsual, longest)};
  MPQ_TRY(std::vector<uint32_t> counts, args.list("seq-len"));
  for (const uint32_t count : counts)
    if (count == 0 || count > longest)
      return Error{Status::kInvalidArgument,
                   format("--seq-len %u: the model takes 1 to %u tokens", count, longest)};
  return counts;
}

// 0: to be found out.
Result<std::vector<uint32_t>> stream_counts(const Args& args) {
  if (args.text("streams") == "auto") return std::vector<uint32_t>{0};
  MPQ_TRY(std::vector<uint32_t> counts, args.list("streams"));
  for (const uint32_t count : counts)
    if (count == 0 || count > kMaxStreams)
      return Error{Status::kInvalidArgument,
                   format("--streams %u: auto, or 1 to %u", count, kMaxStreams)};
  return counts;
}

Result<std::vector<SessionSpec>> sweep(const Args& args, const std::vector<uint32_t>& tokens) {
  MPQ_TRY(const std::vector<uint32_t> batches, args.list("batch"));
  MPQ_TRY(const std::vector<uint32_t> threads, args.list("threads"));
  std::vector<SessionSpec> specs;
  for (const std::string& isa : split(args.text("isa"), ','))
    for (const uint32_t batch : batches)
      for (const uint32_t length : tokens)
        for (const uint32_t t : threads)
          specs.push_back({batch, t, isa, false, false, length * batch});
  return specs;
}

constexpr const char* kDefinitions =
    "\ntimes in ms of one run of a whole batch, after the warm-up; p: nearest rank; sd %: standard "
    "deviation over mean;\n"
    "+copies: median with inputs copied in and outputs copied out; /s: all runs, with copies, over "
    "the time they took together;\n"
    "MB, weights: activations and scratch of all streams + weights, which they share; change: of "
    "the "
    "least\n";

}  // namespace

Result<ExitCode> run_bench(const Args& args) {
  MPQ_TRY(const Report report,
          Report::create(args, {Output::kText, Output::kJson, Output::kJsonLines, Output::kCsv,
                                Output::kMarkdown}));
  MPQ_TRY(const std::string path, model_path(args));
  Limits limits;
  MPQ_TRY(limits.warmup, args.real("warmup"));
  MPQ_TRY(limits.duration, args.real("duration"));
  MPQ_TRY(limits.iterations, args.whole("iterations"));
  MPQ_TRY(const uint64_t distinct, args.whole("distinct"));
  const bool compares = args.has("baseline"), gated = args.has("fail-above");
  MPQ_TRY(const double allowed, allowed_change(args));
  Json baseline;
  if (compares) {
    MPQ_TRY(baseline, load_baseline(args, "results"));
  }

  const Host host = inspect_host();
  MPQ_TRY(const Model model, Model::open(path, args));
  MPQ_TRY(const std::vector<uint32_t> tokens, token_counts(model, args));
  MPQ_TRY(const std::vector<SessionSpec> specs, sweep(args, tokens));
  MPQ_TRY(const std::vector<uint32_t> streams, stream_counts(args));
  uint32_t largest_batch = 1;
  for (const SessionSpec& spec : specs) largest_batch = std::max(largest_batch, spec.batch);
  const size_t wanted = std::max<size_t>(distinct, size_t{largest_batch} * 2);
  std::map<uint32_t, std::vector<Sample>> samples;  // by their number of tokens
  for (const uint32_t length : tokens) {
    MPQ_TRY(samples[length], gather_samples(model, args, wanted, length));
  }

  std::vector<Row> rows;
  std::vector<std::string> warnings;
  uint32_t most_threads = 0;
  bool slower = false;
  report.print(format("%s: %s, %s, loaded in %.1f ms\n%s, %s, %u CPUs\n\n", model.path().c_str(),
                      mpq_model_name(model.get()), bytes_text(mpq_model_bytes(model.get())).c_str(),
                      model.load_seconds() * 1e3, host.cpu.c_str(), host.kernel.c_str(),
                      host.usable));
  for (const SessionSpec& spec : specs)
    for (uint32_t count : streams) {
      if (interrupted()) break;
      const uint32_t length = spec.max_tokens / std::max(spec.batch, 1U);
      if (count == 0) {
        MPQ_TRY(count, best_streams(model, spec, samples[length], args));
      }
      MPQ_TRY(Row row, measure(model, spec, count, samples[length], limits, args));
      row.sequences = model.sequence_length() != 0;
      row.tokens = length;
      if (row.compute.n == 0) break;
      if (compares) row.change = change_from(baseline, row);
      slower = slower || row.change.slower(allowed);
      most_threads = std::max(most_threads, row.streams * row.threads);
      const std::string name = format("batch %u, %u streams of %u threads, %s", row.batch,
                                      row.streams, row.threads, row.isa.c_str());
      if (row.compute.variation() > kNoisy)
        warnings.push_back(
            format("%s: noisy, standard deviation %.1f %% of the mean; trust the minimum",
                   name.c_str(), row.compute.variation() * 100));
      if (gated && std::isnan(row.change.change))
        warnings.push_back(name + ": not in the baseline");
      report.print_line(json_of(row, args.has("samples")));
      rows.push_back(std::move(row));
    }
  for (const std::string& warning : host_warnings(host, most_threads)) warnings.push_back(warning);

  report.print(table_of(rows, compares, model.sequence_length() != 0, args.has("streams")));
  report.print(kDefinitions);
  for (const std::string& warning : warnings) warn(warning);
  Json document = json_head(args, &model);
  document["load_ns"] = std::llround(model.load_seconds() * 1e9);
  document["configuration"] = {{"warmup_s", limits.warmup},
                               {"duration_s", limits.duration},
                               {"iterations", limits.iterations},
                               {"distinct_inputs", samples.begin()->second.size()}};
  document["results"] = Json::array();
  for (const Row& row : rows) document["results"].push_back(json_of(row, args.has("samples")));
  document["peak_rss_bytes"] = peak_rss_bytes();
  document["warnings"] = warnings;
  MPQ_CHECK(report.finish(document));
  if (slower)
    complain(format("slower than %s by more than %.3g %%", args.text("baseline").c_str(),
                    allowed * 100));
  return slower ? kExitSpeed : kExitOk;
}

}  // namespace mpq::cli
