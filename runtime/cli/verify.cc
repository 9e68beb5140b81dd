// mpqrun verify MODEL: is the file whole, and do this machine's kernels compute what the portable
// scalar ones define?
#include <cstring>

#include "runtime/cli/inputs.h"
#include "runtime/cli/report.h"
#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {

namespace {

constexpr uint32_t kThreads[] = {1, 2, 3};
constexpr uint32_t kBatches[] = {1, 3};

using Outputs = std::vector<std::vector<std::byte>>;  // of one sample

// Runs all samples and returns each one's outputs, batched as the session is.
Result<std::vector<Outputs>> outputs_of(Session* session, const std::vector<Sample>& samples,
                                        Progress* progress, size_t* done) {
  std::vector<Outputs> all;
  for (size_t first = 0; first < samples.size() && !interrupted(); first += session->batch()) {
    MPQ_CHECK(fill(session, samples, first));
    MPQ_CHECK(session->run());
    const size_t count = std::min<size_t>(session->batch(), samples.size() - first);
    for (size_t i = 0; i < count; ++i) {
      Outputs outputs;
      for (size_t o = 0; o < session->outputs().size(); ++o) {
        MPQ_TRY(const std::span<const std::byte> part,
                session->sample_output(o, static_cast<uint32_t>(i)));
        outputs.emplace_back(part.begin(), part.end());
      }
      all.push_back(std::move(outputs));
    }
    progress->update(*done += count);
  }
  return all;
}

// "sample 2: output logits: byte 17 of 4000"; "" when all are equal.
std::string first_difference(const std::vector<Outputs>& a, const std::vector<Outputs>& b,
                             const std::vector<TensorInfo>& infos) {
  for (size_t s = 0; s < std::min(a.size(), b.size()); ++s)
    for (size_t o = 0; o < infos.size(); ++o)
      for (size_t i = 0; i < a[s][o].size(); ++i)
        if (a[s][o][i] != b[s][o][i])
          return format("sample %zu: output %s: byte %zu of %zu", s, infos[o].name.c_str(), i,
                        a[s][o].size());
  return "";
}

struct Trial {
  SessionSpec spec;
  std::string difference;
};

Result<std::vector<Trial>> against_reference(const Model& model, const std::vector<Sample>& samples,
                                             const Args& args) {
  std::vector<std::string> levels;
  const std::string asked = args.text("isa");
  for (const std::string& level : inspect_host().levels)
    if (asked == "auto" || asked == level) levels.push_back(level);
  if (levels.empty())
    return Error{Status::kUnsupportedCpu, "--isa " + asked + ": this machine does not have it"};
  std::vector<Trial> trials;
  for (const std::string& level : levels)
    for (const uint32_t batch : kBatches)
      for (const uint32_t threads : kThreads)
        if (level != "scalar" || batch * threads == 2)
          trials.push_back({{batch, threads, level, false, false, 0}, ""});

  Progress progress(args, "verify", samples.size() * (trials.size() + 1));
  size_t done = 0;
  MPQ_TRY(Session reference, Session::create(model, {1, 1, "scalar", false, false, 0}, args));
  MPQ_TRY(const std::vector<Outputs> expected, outputs_of(&reference, samples, &progress, &done));
  std::vector<Trial> finished;
  for (Trial& trial : trials) {
    if (interrupted()) break;
    MPQ_TRY(Session session, Session::create(model, trial.spec, args));
    MPQ_TRY(const std::vector<Outputs> got, outputs_of(&session, samples, &progress, &done));
    trial.difference = first_difference(expected, got, session.outputs());
    if (got.size() == expected.size()) finished.push_back(std::move(trial));
  }
  return finished;
}

}  // namespace

Result<ExitCode> run_verify(const Args& args) {
  MPQ_TRY(const Report report,
          Report::create(args, {Output::kText, Output::kJson, Output::kCsv, Output::kMarkdown}));
  MPQ_TRY(const std::string path, model_path(args));
  const std::string against = args.text("against");
  if (!against.empty() && against != "reference")
    return Error{
        Status::kInvalidArgument,
        "--against " + against + ": only `reference`; to compare with a file use mpqrun compare"};
  MPQ_TRY(const uint64_t rounds, args.whole("rounds"));
  MPQ_TRY(const uint64_t seed, args.whole("seed"));
  MPQ_TRY(const Model model, Model::open(path, args));
  report.print(
      format("%s: whole: header, metadata%s, structure; %zu layers\n", path.c_str(),
             args.text("verify") == "full" ? ", every segment's SHA-256" : " (weights not checked)",
             mpq_model_node_count(model.get())));

  std::vector<Trial> trials;
  if (!against.empty()) {
    MPQ_TRY(trials, against_reference(
                        model, random_samples(model, std::max<uint64_t>(rounds, 1), seed), args));
  }
  bool equal = true;
  Table table{{{"isa", false}, {"batch"}, {"threads"}, {"outputs", false}}, {}};
  Json results = Json::array();
  for (const Trial& trial : trials) {
    equal = equal && trial.difference.empty();
    const std::string verdict =
        trial.difference.empty() ? "equal to the reference" : "DIFFER: " + trial.difference;
    table.rows.push_back({trial.spec.isa, std::to_string(trial.spec.batch),
                          std::to_string(trial.spec.threads), verdict});
    results.push_back({{"isa", trial.spec.isa},
                       {"batch", trial.spec.batch},
                       {"threads", trial.spec.threads},
                       {"equal", trial.difference.empty()},
                       {"first_difference", trial.difference}});
  }
  if (!trials.empty()) report.print(table);
  Json document = json_head(args, &model);
  document["structure"] = "ok";
  document["digests"] = args.text("verify") == "full" ? "ok" : "not checked";
  document["reference"] = std::move(results);
  document["complete"] = !interrupted();
  MPQ_CHECK(report.finish(document));
  if (!equal)
    complain(path +
             ": kernels of this machine differ from the reference; for the layer: mpqrun "
             "compare " +
             path + " --isa scalar,NAME --per-layer");
  return equal ? kExitOk : kExitAccuracy;
}

}  // namespace mpq::cli
