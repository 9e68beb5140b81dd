// mpqrun MODEL -i FILE...: one forward pass each, the best classes in words.
#include <algorithm>

#include "runtime/cli/classes.h"
#include "runtime/cli/inputs.h"
#include "runtime/cli/report.h"
#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"
#include "runtime/cli/texts.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {

namespace {

ArrayType array_type(mpq_dtype dtype) {
  return dtype == MPQ_F32 ? ArrayType::kF32 : dtype == MPQ_S32 ? ArrayType::kS32 : ArrayType::kU8;
}

// Outputs of all samples, one array per output with the samples as first dimension.
std::vector<std::pair<std::string, Array>> empty_arrays(const Session& session) {
  std::vector<std::pair<std::string, Array>> arrays;
  for (const TensorInfo& info : session.outputs()) {
    Array array{array_type(info.dtype), {0}, {}};
    for (size_t i = 1; i < info.shape.size(); ++i)
      array.shape.push_back(static_cast<uint64_t>(info.shape[i]));
    arrays.emplace_back(info.name, std::move(array));
  }
  return arrays;
}

Checked save(const std::string& path, const std::vector<std::pair<std::string, Array>>& arrays) {
  if (path.ends_with(".npz")) return write_npz(path, arrays);
  if (!path.ends_with(".npy"))
    return Error{Status::kInvalidArgument, path + ": outputs are saved as .npy or .npz"};
  if (arrays.size() != 1)
    return Error{Status::kInvalidArgument,
                 path + ": the model has several outputs; save them as .npz"};
  return write_npy(path, arrays[0].second);
}

std::string score_text(const ClassScore& score) {
  return score.probability >= 0.0 ? format("%7.2f %%", score.probability * 100.0)
                                  : format("%9.0f", score.value);
}

// A line per class; colour marks the winner.
std::string answer_text(const std::string& name, const std::vector<ClassScore>& best,
                        const std::vector<std::string>& labels) {
  std::string text = name + "\n";
  for (const ClassScore& score : best) {
    const bool first = &score == &best.front();
    const std::string label = score.index < labels.size() ? labels[score.index] : "";
    text += format("  %s%s  %4zu%s%s%s\n", first && colored() ? "\033[1m" : "",
                   score_text(score).c_str(), score.index, label.empty() ? "" : "  ", label.c_str(),
                   first && colored() ? "\033[0m" : "");
  }
  return text;
}

}  // namespace

Result<ExitCode> run_once(const Args& args) {
  MPQ_TRY(const Report report,
          Report::create(args, {Output::kText, Output::kJson, Output::kJsonLines, Output::kCsv,
                                Output::kMarkdown}));
  MPQ_TRY(const std::string path, model_path(args));
  MPQ_TRY(const Model model, Model::open(path, args));
  MPQ_TRY(const uint64_t top, args.whole("top"));
  if (!args.has("input"))
    return Error{Status::kInvalidArgument,
                 path + ": no input; give " +
                     (model.sequence_length() != 0
                          ? "-i TEXT, or -i 'TEXT | TEXT'"
                          : "-i FILE (the model reads " + to_string(model.inputs()[0]) + ")")};
  if (model.sequence_length() != 0) return run_texts(args, model, report);
  MPQ_TRY(const SampleSource source, SampleSource::create(model, args, 0, 0));
  MPQ_TRY(const std::vector<std::string> labels, class_names(model, args));
  SessionSpec spec;
  MPQ_TRY(spec.batch, single(args, "batch"));
  MPQ_TRY(spec.threads, single(args, "threads"));
  spec.isa = args.text("isa");
  MPQ_TRY(Session session, Session::create(model, spec, args));

  Table table{{{"input", false}, {"rank"}, {"class"}, {"score"}, {"label", false}}, {}};
  std::vector<std::pair<std::string, Array>> arrays = empty_arrays(session);
  Json results = Json::array();
  Progress progress(args, "run", source.size());
  for (size_t first = 0; first < source.size() && !interrupted(); first += session.batch()) {
    std::vector<Sample> samples;
    for (size_t i = first; i < std::min<size_t>(first + session.batch(), source.size()); ++i) {
      MPQ_TRY(Sample sample, source.get(i));
      samples.push_back(std::move(sample));
    }
    MPQ_CHECK(fill(&session, samples, 0));
    MPQ_CHECK(session.run());
    for (size_t o = 0; o < arrays.size(); ++o) {
      MPQ_TRY(const std::byte* const data, session.output(o));
      const size_t row = session.outputs()[o].bytes / session.batch();
      arrays[o].second.data.insert(arrays[o].second.data.end(), data, data + row * samples.size());
      arrays[o].second.shape[0] += samples.size();
    }
    const TensorInfo& info = session.outputs()[0];
    MPQ_TRY(const std::byte* const data, session.output(0));
    const size_t classes = info.elements / session.batch();
    for (size_t i = 0; i < samples.size(); ++i) {
      const std::byte* const row = data + i * (info.bytes / session.batch());
      const std::vector<ClassScore> best = best_classes(row, info.dtype, classes, top);
      report.print(answer_text(samples[i].name, best, labels));
      Json json = {{"input", samples[i].name}, {"top", Json::array()}};
      for (const ClassScore& score : best) {
        const std::string label = score.index < labels.size() ? labels[score.index] : "";
        json["top"].push_back({{"class", score.index}, {"label", label}, {"value", score.value}});
        if (score.probability >= 0.0) json["top"].back()["probability"] = score.probability;
        table.rows.push_back({samples[i].name, std::to_string(json["top"].size()),
                              std::to_string(score.index), std::string(trim(score_text(score))),
                              label});
      }
      report.print_line(json);
      results.push_back(std::move(json));
    }
    progress.update(first + samples.size());
  }
  if (!report.text()) report.print(table);
  if (args.has("save")) MPQ_CHECK(save(args.text("save"), arrays));
  Json document = json_head(args, &model);
  document["results"] = std::move(results);
  MPQ_CHECK(report.finish(document));
  return kExitOk;
}

}  // namespace mpq::cli
