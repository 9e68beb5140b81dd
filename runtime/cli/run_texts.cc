// mpqrun MODEL -i TEXT: what a model of texts says about it.
#include <algorithm>
#include <cmath>

#include "runtime/cli/classes.h"
#include "runtime/cli/report.h"
#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"
#include "runtime/cli/texts.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {
namespace {

// What was asked: one text or two.
struct Question {
  std::string text, pair;
  std::string name() const { return pair.empty() ? text : text + " | " + pair; }
};

Result<std::vector<Question>> questions_of(const Model& model, const Args& args) {
  std::vector<Question> questions;
  for (const std::string& word : args.all("input")) {
    const bool file = ends_with_any(word, {".txt", ".tsv", ".jsonl"});
    if (file || data::is_text_dataset(word)) {
      MPQ_TRY(const data::TextDataset set,
              data::open_text_dataset(file && !data::is_text_dataset(word)
                                          ? word.substr(word.rfind('.') + 1) + ":" + word
                                          : word));
      for (const data::TextSample& sample : set.samples)
        questions.push_back({sample.text, sample.pair});
      continue;
    }
    MPQ_TRY(const data::TextSample sample, words_of(model, word));
    questions.push_back({sample.text, sample.pair});
  }
  return questions;
}

double norm(const std::vector<float>& v) {
  double sum = 0.0;
  for (const float x : v) sum += double{x} * double{x};
  return std::sqrt(sum);
}

// An answer in words, as a row of the table, and as JSON.
struct Said {
  std::string text;
  std::vector<std::string> row;
  Json json;
};

Said say_embedding(const Question& question, const std::vector<float>& a,
                   const std::vector<float>* b) {
  Said said;
  if (b != nullptr) {
    const double c = cosine(a, *b);
    said.text = format("cosine %7.4f  %s\n", c, question.name().c_str());
    said.json = {{"text", question.text}, {"pair", question.pair}, {"cosine", c}};
    said.row = {question.text, question.pair, format("%.4f", c)};
    return said;
  }
  constexpr size_t kShown = 6;
  std::string head;
  for (size_t i = 0; i < std::min(a.size(), kShown); ++i)
    head += format("%s%.4f", i == 0 ? "" : ", ", double{a[i]});
  said.text = format("%s\n  %zu numbers of length %.4f: %s, ...\n", question.text.c_str(), a.size(),
                     norm(a), head.c_str());
  said.json = {{"text", question.text}, {"embedding", a}};
  said.row = {question.text, "", format("%.4f", norm(a))};
  return said;
}

Said say_classes(const Question& question, const std::vector<float>& scores,
                 const std::vector<std::string>& labels, uint64_t top) {
  Said said;
  said.text = question.name() + "\n";
  said.json = {{"text", question.text}, {"pair", question.pair}, {"top", Json::array()}};
  const auto* const raw = reinterpret_cast<const std::byte*>(scores.data());
  for (const ClassScore& best : best_classes(raw, MPQ_F32, scores.size(), top)) {
    const std::string label =
        best.index < labels.size() ? labels[best.index] : std::to_string(best.index);
    said.text += format("  %7.2f %%  %s\n", best.probability * 100.0, label.c_str());
    if (said.row.empty())
      said.row = {question.text, question.pair, label + format(" %.2f %%", best.probability * 100)};
    said.json["top"].push_back({{"class", best.index},
                                {"label", label},
                                {"value", best.value},
                                {"probability", best.probability}});
  }
  return said;
}

}  // namespace

Result<ExitCode> run_texts(const Args& args, const Model& model, const Report& report) {
  MPQ_TRY(const uint64_t top, args.whole("top"));
  MPQ_TRY(const std::vector<Question> questions, questions_of(model, args));
  MPQ_TRY(const std::vector<std::string> labels, class_names(model, args));
  SessionSpec spec;
  MPQ_TRY(spec.batch, single(args, "batch"));
  MPQ_TRY(spec.threads, single(args, "threads"));
  spec.isa = args.text("isa");
  MPQ_TRY(Session session, Session::create(model, spec, args));
  const TextTask task = text_task(model);

  Table table{{{"text", false}, {"pair", false}, {"answer", false}}, {}};
  Json results = Json::array();
  Array saved{ArrayType::kF32, {0, static_cast<uint64_t>(model.outputs()[0].shape.back())}, {}};
  Progress progress(args, "run", questions.size());
  // Many questions at a time, so that a batch may hold several.
  constexpr size_t kAtOnce = 4096;
  for (size_t begin = 0; begin < questions.size() && !interrupted(); begin += kAtOnce) {
    const size_t end = std::min(questions.size(), begin + kAtOnce);
    std::vector<Sample> samples;
    std::vector<size_t> first;  // sample of each question
    for (size_t i = begin; i < end; ++i) {
      const Question& q = questions[i];
      first.push_back(samples.size());
      if (task == TextTask::kSpans) {
        if (q.pair.empty())
          return Error{Status::kInvalidArgument,
                       q.text + ": the model answers from a passage; give 'question | passage'"};
        MPQ_TRY(std::vector<Sample> windows, passage_windows(model, q.text, q.text, q.pair));
        std::move(windows.begin(), windows.end(), std::back_inserter(samples));
        continue;
      }
      const bool apart = task == TextTask::kEmbedding;
      MPQ_TRY(Sample sample,
              tokenise(model, q.text, q.text, apart || q.pair.empty() ? nullptr : &q.pair));
      samples.push_back(std::move(sample));
      if (apart && !q.pair.empty()) {
        MPQ_TRY(Sample second, tokenise(model, q.pair, q.pair, nullptr));
        samples.push_back(std::move(second));
      }
    }
    first.push_back(samples.size());
    MPQ_TRY(const std::vector<std::vector<float>> outputs,
            outputs_of(&session, samples, &progress));
    if (outputs.size() != samples.size()) break;  // interrupted
    for (size_t i = begin; i < end; ++i) {
      const Question& q = questions[i];
      const size_t at = first[i - begin];
      Said said;
      if (task == TextTask::kEmbedding) {
        said = say_embedding(q, outputs[at], q.pair.empty() ? nullptr : &outputs[at + 1]);
      } else if (task == TextTask::kClasses) {
        said = say_classes(q, outputs[at], labels, top);
      } else if (task == TextTask::kSpans) {
        Answer answer;
        for (size_t w = at; w < first[i - begin + 1]; ++w)
          add_window(samples[w], outputs[w].data(), q.pair, &answer);
        said.text =
            format("%s\n  %s  (score %.2f)\n", q.text.c_str(), answer.text.c_str(), answer.score);
        said.json = {{"text", q.text}, {"answer", answer.text}, {"score", answer.score}};
        said.row = {q.text, "", answer.text};
      } else {
        const size_t rows = samples[at].tokens.size();
        said.text = format("%s\n  %zu rows of %zu numbers; --save FILE.npy keeps them\n",
                           q.name().c_str(), rows, outputs[at].size() / rows);
        said.json = {{"text", q.text}, {"pair", q.pair}, {"rows", rows}};
        said.row = {q.text, q.pair, format("%zu rows", rows)};
      }
      report.print(said.text);
      report.print_line(said.json);
      table.rows.push_back(std::move(said.row));
      results.push_back(std::move(said.json));
    }
    for (const std::vector<float>& output : outputs) {
      const auto bytes = std::as_bytes(std::span(output));
      saved.data.insert(saved.data.end(), bytes.begin(), bytes.end());
      saved.shape[0] += output.size() / saved.shape[1];
    }
  }
  if (!report.text()) report.print(table);
  if (args.has("save")) {
    const std::string path = args.text("save");
    if (!path.ends_with(".npy"))
      return Error{Status::kInvalidArgument, path + ": outputs of texts are saved as .npy"};
    MPQ_CHECK(write_npy(path, saved));
  }
  Json document = json_head(args, &model);
  document["results"] = std::move(results);
  MPQ_CHECK(report.finish(document));
  return kExitOk;
}

}  // namespace mpq::cli
