// mpqrun MODEL --eval FORMAT:FILE of a model of texts: correlation of similarities, accuracy of
// classes, or exact match and F1 of answers, as the model's output and the set allow.
#include <algorithm>
#include <cmath>

#include "converter/data/text_metrics.h"
#include "runtime/cli/report.h"
#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"
#include "runtime/cli/texts.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {
namespace {

using Outputs = std::vector<std::vector<float>>;
using Set = std::vector<data::TextSample>;

// The sequences of a set, and where those of each sample begin.
struct Sequences {
  std::vector<Sample> samples;
  std::vector<size_t> first;
};

struct Measure {
  std::string name;  // of the table's column and, with underscores, of the JSON
  double value = NAN;
  double unit = 1.0;  // percent: 100
};

// What can be measured of a task: the sequences that it takes and the measures of their outputs.
struct Evaluation {
  TextTask task;
  const char* needs;  // what a sample must have, for messages
  bool (*fits)(const data::TextSample&);
  Result<std::vector<Sample>> (*sequences)(const Model&, const data::TextSample&,
                                           const std::string& name);
  std::vector<Measure> (*measure)(const Set&, const Sequences&, const Outputs&);
};

bool has_score(const data::TextSample& sample) {
  return !sample.pair.empty() && !std::isnan(sample.score);
}
bool has_label(const data::TextSample& sample) { return sample.label >= 0; }
bool has_question(const data::TextSample& sample) { return !sample.pair.empty(); }

Result<std::vector<Sample>> two_texts(const Model& model, const data::TextSample& sample,
                                      const std::string& name) {
  MPQ_TRY(Sample a, tokenise(model, name, sample.text, nullptr));
  MPQ_TRY(Sample b, tokenise(model, name, sample.pair, nullptr));
  return std::vector<Sample>{std::move(a), std::move(b)};
}
Result<std::vector<Sample>> one_text(const Model& model, const data::TextSample& sample,
                                     const std::string& name) {
  MPQ_TRY(Sample a,
          tokenise(model, name, sample.text, sample.pair.empty() ? nullptr : &sample.pair));
  return std::vector<Sample>{std::move(a)};
}
Result<std::vector<Sample>> windows(const Model& model, const data::TextSample& sample,
                                    const std::string& name) {
  return passage_windows(model, name, sample.text, sample.pair);
}

std::vector<Measure> similarity(const Set& set, const Sequences& sequences, const Outputs& out) {
  std::vector<double> ours, theirs;
  for (size_t i = 0; i < set.size(); ++i) {
    const size_t at = sequences.first[i];
    ours.push_back(cosine(out[at], out[at + 1]));
    theirs.push_back(set[i].score);
  }
  return {{"spearman", data::spearman(ours, theirs)}, {"pearson", data::pearson(ours, theirs)}};
}

std::vector<Measure> classes(const Set& set, const Sequences& sequences, const Outputs& out) {
  std::vector<int32_t> predicted, expected;
  for (size_t i = 0; i < set.size(); ++i) {
    const std::vector<float>& scores = out[sequences.first[i]];
    predicted.push_back(
        static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin()));
    expected.push_back(set[i].label);
  }
  return {{"accuracy", data::accuracy(predicted, expected), 100.0}};
}

std::vector<Measure> answers(const Set& set, const Sequences& sequences, const Outputs& out) {
  double exact = 0.0, f1 = 0.0;
  const bool may_be_none = std::any_of(set.begin(), set.end(),
                                       [](const data::TextSample& s) { return s.answers.empty(); });
  for (size_t i = 0; i < set.size(); ++i) {
    Answer answer;
    for (size_t w = sequences.first[i]; w < sequences.first[i + 1]; ++w)
      add_window(sequences.samples[w], out[w].data(), set[i].pair, &answer);
    const bool none = may_be_none && answer.null_score > answer.score;
    const data::AnswerScore score = data::score_answer(none ? "" : answer.text, set[i].answers);
    exact += score.exact;
    f1 += score.f1;
  }
  const auto n = static_cast<double>(set.size());
  return {{"exact match", exact / n, 100.0}, {"f1", f1 / n, 100.0}};
}

constexpr Evaluation kEvaluations[] = {
    {TextTask::kEmbedding, "pairs of texts with a similarity (stsb:FILE)", has_score, two_texts,
     similarity},
    {TextTask::kClasses, "texts with a class (glue-tsv:FILE, tsv:FILE, jsonl:FILE)", has_label,
     one_text, classes},
    {TextTask::kSpans, "questions with passages (squad:FILE)", has_question, windows, answers},
};

std::string key_of(std::string name) {
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

}  // namespace

Result<ExitCode> eval_texts(const Args& args, const Model& model) {
  MPQ_TRY(const Report report,
          Report::create(args, {Output::kText, Output::kJson, Output::kCsv, Output::kMarkdown}));
  const TextTask task = text_task(model);
  const auto* const evaluation =
      std::find_if(std::begin(kEvaluations), std::end(kEvaluations),
                   [task](const Evaluation& row) { return row.task == task; });
  if (evaluation == std::end(kEvaluations))
    return Error{Status::kUnsupported,
                 model.path() + ": gives a vector a token, which no set can judge; use run --save"};
  const std::string spec = dataset_of(args);
  MPQ_TRY(data::TextDataset set, data::open_text_dataset(spec));
  MPQ_TRY(const uint64_t limit, args.whole("limit"));
  if (limit != 0 && limit < set.samples.size()) set.samples.resize(limit);
  const auto unfit = std::find_if_not(set.samples.begin(), set.samples.end(), evaluation->fits);
  if (unfit != set.samples.end())
    return Error{
        Status::kInvalidArgument,
        format("%s: sample %zu does not fit the model, which is judged by %s", spec.c_str(),
               static_cast<size_t>(unfit - set.samples.begin()), evaluation->needs)};
  SessionSpec options;
  MPQ_TRY(options.batch, single(args, "batch"));
  MPQ_TRY(options.threads, single(args, "threads"));
  options.isa = args.text("isa");
  double least = -1.0;
  if (args.has("min-acc")) {
    MPQ_TRY(least, args.percent("min-acc"));
  }

  Sequences sequences;
  size_t tokens = 0;
  for (size_t i = 0; i < set.samples.size(); ++i) {
    sequences.first.push_back(sequences.samples.size());
    MPQ_TRY(
        std::vector<Sample> more,
        evaluation->sequences(model, set.samples[i], format("%s: sample %zu", spec.c_str(), i)));
    for (const Sample& sample : more) tokens += sample.tokens.size();
    std::move(more.begin(), more.end(), std::back_inserter(sequences.samples));
  }
  sequences.first.push_back(sequences.samples.size());
  MPQ_TRY(Session session, Session::create(model, options, args));
  const Clock::time_point start = Clock::now();
  Outputs outputs;
  {
    Progress progress(args, "eval", sequences.samples.size());
    MPQ_TRY(outputs, outputs_of(&session, sequences.samples, &progress));
  }
  const double seconds = seconds_since(start);
  if (outputs.size() != sequences.samples.size())
    return Error{Status::kInvalidArgument, "interrupted before the end of the set"};

  const std::vector<Measure> measures = evaluation->measure(set.samples, sequences, outputs);
  Table table{{{"samples"}}, {{std::to_string(set.samples.size())}}};
  Json document = json_head(args, &model);
  document["configuration"] = {{"dataset", spec},
                               {"batch", session.batch()},
                               {"threads", session.threads()},
                               {"isa", session.isa()}};
  document["samples"] = set.samples.size();
  document["sequences"] = outputs.size();
  document["tokens"] = tokens;
  for (const Measure& measure : measures) {
    table.columns.push_back({measure.name + (measure.unit == 1.0 ? "" : " %")});
    table.rows[0].push_back(
        format(measure.unit == 1.0 ? "%.5f" : "%.3f", measure.value * measure.unit));
    document[key_of(measure.name)] = measure.value;
  }
  const double rate = static_cast<double>(outputs.size()) / seconds;
  table.columns.push_back({"sequences/s"});
  table.rows[0].push_back(format("%.1f", rate));
  table.columns.push_back({"tokens/s"});
  table.rows[0].push_back(format("%.0f", static_cast<double>(tokens) / seconds));
  document["seconds"] = seconds;
  document["sequences_per_second"] = rate;
  report.print(table);
  MPQ_CHECK(report.finish(document));
  if (least >= 0.0 && !(measures[0].value >= least)) {
    complain(format("%s of %.3f %% is below %.3f %%", measures[0].name.c_str(),
                    measures[0].value * 100, least * 100));
    return kExitAccuracy;
  }
  return kExitOk;
}

}  // namespace mpq::cli
