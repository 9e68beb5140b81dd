// mpqrun MODEL --eval --dataset PATH: accuracy on labelled images, and known answers.
#include <cmath>

#include "runtime/cli/classes.h"
#include "runtime/cli/expected.h"
#include "runtime/cli/inputs.h"
#include "runtime/cli/prefetch.h"
#include "runtime/cli/report.h"
#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"
#include "runtime/cli/texts.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {

namespace {

constexpr size_t kTop = 5;

struct Score {
  uint64_t images = 0, labelled = 0, top1 = 0, top5 = 0;
  double accuracy(uint64_t correct) const {
    return labelled != 0 ? static_cast<double>(correct) / static_cast<double>(labelled) : 0.0;
  }
  // Standard error of top-1, binomial.
  double error() const {
    const double p = accuracy(top1);
    return labelled != 0 ? std::sqrt(p * (1.0 - p) / static_cast<double>(labelled)) : 0.0;
  }
};

void count(const std::vector<ClassScore>& best, int32_t label, Score* score) {
  ++score->images;
  if (label < 0) return;
  ++score->labelled;
  for (size_t i = 0; i < best.size(); ++i)
    if (best[i].index == static_cast<size_t>(label)) {
      score->top1 += i == 0 ? 1 : 0;
      ++score->top5;
    }
}

// The form that Expected reads: integers for accumulators, as many digits as needed for logits.
std::string csv_line(const Sample& sample, int32_t label, const std::vector<ClassScore>& best,
                     mpq_dtype dtype) {
  std::string classes, values;
  for (const ClassScore& score : best) {
    classes += (classes.empty() ? "" : " ") + std::to_string(score.index);
    values += (values.empty() ? "" : " ") + format(dtype == MPQ_F32 ? "%.9g" : "%.0f", score.value);
  }
  return sample.name + "," + std::to_string(label) + "," + classes + "," + values + "\n";
}

Json json_of(const Agreement& a) {
  return {{"images", a.images},
          {"missing", a.missing},
          {"accumulators", a.accumulators},
          {"accumulators_equal", a.accumulators_equal},
          {"top_lists", a.lists},
          {"top_lists_equal", a.lists_equal},
          {"first_difference", a.first_difference}};
}

std::string text_of(const Agreement& a) {
  const auto part = [](const char* what, uint64_t equal, uint64_t all) {
    return all == 0 ? ""
                    : format(", %llu of %llu %s equal", static_cast<unsigned long long>(equal),
                             static_cast<unsigned long long>(all), what);
  };
  return format("expected answers: %llu rows compared",
                static_cast<unsigned long long>(a.images - a.missing)) +
         part("accumulators", a.accumulators_equal, a.accumulators) +
         part("lists of best classes", a.lists_equal, a.lists) +
         (a.missing != 0
              ? format(", %llu without an answer", static_cast<unsigned long long>(a.missing))
              : "") +
         (a.first_difference.empty() ? "" : "\nfirst difference: " + a.first_difference) + "\n";
}

}  // namespace

Result<ExitCode> run_eval(const Args& args) {
  MPQ_TRY(const Report report,
          Report::create(args, {Output::kText, Output::kJson, Output::kCsv, Output::kMarkdown}));
  MPQ_TRY(const std::string path, model_path(args));
  if (dataset_of(args).empty())
    return Error{
        Status::kInvalidArgument,
        "eval: a data set is needed: --dataset FOLDER or .tar of images, or FORMAT:FILE of "
        "texts"};
  MPQ_TRY(const Model model, Model::open(path, args));
  if (model.sequence_length() != 0) return eval_texts(args, model);
  SessionSpec spec;
  MPQ_TRY(spec.batch, single(args, "batch"));
  MPQ_TRY(spec.threads, single(args, "threads"));
  spec.isa = args.text("isa");
  MPQ_TRY(const uint64_t limit, args.whole("limit"));
  MPQ_TRY(uint64_t jobs, args.whole("jobs"));
  if (jobs == 0) jobs = mpq_default_threads();
  double min_accuracy = -1.0;
  if (args.has("min-acc")) {
    MPQ_TRY(min_accuracy, args.percent("min-acc"));
  }
  Expected expected;
  const bool expects = args.has("expect-csv");
  if (expects) {
    MPQ_TRY(expected, Expected::load(args.text("expect-csv")));
  }

  MPQ_TRY(const SampleSource source, SampleSource::create(model, args, limit, 0));
  MPQ_TRY(Session session, Session::create(model, spec, args));
  const TensorInfo& info = session.outputs()[0];
  const size_t classes = info.elements / session.batch(), row_bytes = info.bytes / session.batch();
  if (classes < 2)
    return Error{Status::kUnsupported,
                 path + ": output " + to_string(info) + " is not a classifier's"};
  const data::ImageDataset& set = *source.images();
  if (set.class_names().size() > classes)
    warn(format("the data set names %zu classes, the model has %zu", set.class_names().size(),
                classes));

  Score score;
  Agreement agreement;
  std::string per_image = "image,label,classes,values\n";
  Array logits{info.dtype == MPQ_F32   ? ArrayType::kF32
               : info.dtype == MPQ_S32 ? ArrayType::kS32
                                       : ArrayType::kU8,
               {0, classes},
               {}};
  const bool keeps_logits = args.has("save-logits");
  double run_seconds = 0.0;
  const Clock::time_point start = Clock::now();
  {
    Prefetch prefetch(source, static_cast<uint32_t>(jobs), session.batch() * 2 + jobs * 2);
    Progress progress(args, "eval", source.size());
    for (size_t first = 0; first < source.size() && !interrupted(); first += session.batch()) {
      std::vector<Sample> samples;
      for (size_t i = first; i < std::min<size_t>(first + session.batch(), source.size()); ++i) {
        MPQ_TRY(Sample sample, prefetch.next());
        samples.push_back(std::move(sample));
      }
      MPQ_CHECK(fill(&session, samples, 0));
      const Clock::time_point run_start = Clock::now();
      MPQ_CHECK(session.run());
      run_seconds += seconds_since(run_start);
      MPQ_TRY(const std::byte* const data, session.output(0));
      for (size_t i = 0; i < samples.size(); ++i) {
        const std::vector<ClassScore> best =
            best_classes(data + i * row_bytes, info.dtype, classes, kTop);
        count(best, source.label(first + i), &score);
        if (args.has("per-image"))
          per_image += csv_line(samples[i], source.label(first + i), best, info.dtype);
        if (expects)
          for (size_t o = 0; o < session.outputs().size(); ++o) {
            MPQ_TRY(const std::byte* const all, session.output(o));
            const TensorInfo& out = session.outputs()[o];
            compare_answer(expected, samples[i].name, out, all + i * (out.bytes / session.batch()),
                           out.elements / session.batch(), &agreement);
          }
      }
      if (keeps_logits) {
        logits.data.insert(logits.data.end(), data, data + samples.size() * row_bytes);
        logits.shape[0] += samples.size();
      }
      progress.update(score.images, score.labelled != 0
                                        ? format("top-1 %.2f %%", score.accuracy(score.top1) * 100)
                                        : "");
    }
  }
  const double seconds = seconds_since(start);

  Table table{{{"images"},
               {"top-1 %"},
               {"top-5 %"},
               {"correct"},
               {"std. error"},
               {"images/s"},
               {"ms/image"}},
              {}};
  const auto n = static_cast<double>(std::max<uint64_t>(score.images, 1));
  const bool labelled = score.labelled != 0;
  table.rows.push_back({std::to_string(score.images),
                        labelled ? format("%.3f", score.accuracy(score.top1) * 100) : "-",
                        labelled ? format("%.3f", score.accuracy(score.top5) * 100) : "-",
                        std::to_string(score.top1),
                        labelled ? format("%.2f", score.error() * 100) : "-",
                        format("%.1f", n / seconds), format("%.2f", run_seconds / n * 1e3)});
  report.print(table);
  report.print(
      "\ncorrect: by the best class; images/s: decoding included; ms/image: the network alone\n");
  if (info.dtype == MPQ_S32)
    report.print("the output is accumulators, not logits: classes are ranked by the accumulator\n");
  if (expects) report.print(text_of(agreement));
  if (args.has("per-image")) MPQ_CHECK(write_file(args.text("per-image"), per_image));
  if (keeps_logits) MPQ_CHECK(write_npy(args.text("save-logits"), logits));

  Json document = json_head(args, &model);
  document["configuration"] = {{"dataset", dataset_of(args)},
                               {"batch", session.batch()},
                               {"threads", session.threads()},
                               {"isa", session.isa()},
                               {"jobs", jobs}};
  document["images"] = score.images;
  document["labelled"] = score.labelled;
  document["top1_correct"] = score.top1;
  document["top5_correct"] = score.top5;
  document["top1"] = score.accuracy(score.top1);
  document["top5"] = score.accuracy(score.top5);
  document["top1_standard_error"] = score.error();
  document["seconds"] = seconds;
  document["run_seconds"] = run_seconds;
  document["complete"] = !interrupted();
  if (expects) document["expected"] = json_of(agreement);
  MPQ_CHECK(report.finish(document));

  if (expects && !agreement.exact()) {
    complain(args.text("expect-csv") + ": answers differ");
    return kExitAccuracy;
  }
  if (min_accuracy >= 0.0 && (!labelled || score.accuracy(score.top1) < min_accuracy)) {
    complain(format("top-1 of %.3f %% is below %.3f %%", score.accuracy(score.top1) * 100,
                    min_accuracy * 100));
    return kExitAccuracy;
  }
  return kExitOk;
}

}  // namespace mpq::cli
