// mpqconvert train, of an encoder of texts: all of it but its tables, below a new classifier.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "converter/cli/network.h"
#include "converter/cli/output.h"
#include "converter/cli/progress.h"
#include "converter/cli/texts.h"
#include "converter/cli/training.h"
#include "converter/data/text_dataset.h"
#include "converter/train/fit_texts.h"
#include "converter/transformer/export.h"
#include "converter/transformer/tokenizer_files.h"

namespace mpq::convert::cli {
namespace {

// The names of the classes; where the set has numbers, as Hugging Face's tools name them.
Result<std::vector<std::string>> class_names(const std::string& spec) {
  MPQ_TRY(const data::TextDataset set, data::open_text_dataset(spec));
  std::vector<std::string> names = set.class_names;
  int32_t last = -1;
  for (const data::TextSample& sample : set.samples) last = std::max(last, sample.label);
  for (int32_t i = static_cast<int32_t>(names.size()); i <= last; ++i)
    names.push_back("LABEL_" + std::to_string(i));
  if (names.size() < 2)
    return Error{Status::kInvalidArgument, spec + ": has " + std::to_string(names.size()) +
                                               " classes, a classifier needs two"};
  return names;
}

train::TextRecipe text_recipe(const train::Recipe& given, size_t texts) {
  train::TextRecipe recipe;
  recipe.batch = given.batch;
  recipe.steps = train::total_steps(given, texts);
  recipe.schedule = given.schedule;
  recipe.optimizer = given.optimizer;
  recipe.seed = given.seed;
  recipe.checkpoint = given.checkpoint;
  if (given.checkpoint_steps != 0) recipe.checkpoint_steps = given.checkpoint_steps;
  return recipe;
}

}  // namespace

Checked train_texts(const std::string& encoder, uint32_t max_tokens, const TrainingRequest& request,
                    const std::string& output, const Global& global) {
  MPQ_TRY(const std::vector<std::string> labels, class_names(request.dataset));
  NetworkOptions options;
  options.max_tokens = max_tokens;
  options.classes = static_cast<uint32_t>(labels.size());
  options.seed = request.recipe.seed;
  MPQ_TRY(Network network, load_network(encoder, options));
  MPQ_TRY(const transformer::TokenizerFiles files, transformer::read_tokenizer(network.tokenizer));
  MPQ_TRY(const text::Tokenizer tokenizer,
          text::Tokenizer::create(files.settings, files.vocabulary));
  const Graph graph = network.graph;
  MPQ_TRY(const LabelledTexts texts,
          load_labelled_texts(request.dataset, request.limit, tokenizer, graph));
  MPQ_TRY(train::Tape tape,
          train::Tape::create(graph, {.fixed_words = true, .bfloat16 = request.recipe.bfloat16}));
  // Not after training: it may refuse. Not before: what is refused leaves nothing behind.
  MPQ_CHECK(transformer::make_target(encoder, output));

  train::TextRecipe recipe = text_recipe(request.recipe, texts.labels.size());
  Progress progress("training", global.quiet);
  constexpr double kShare = 0.02;  // of a new loss in what is shown
  double shown = -1.0;
  recipe.progress = [&](uint64_t step, double loss) {
    shown = shown < 0.0 ? loss : shown + kShare * (loss - shown);
    progress.update(step, recipe.steps, fmt::format("loss {:.4f}", shown));
    return true;
  };
  MPQ_TRY(const std::vector<double> losses,
          train::fit_texts(&tape, texts.texts, recipe, train::classification(&tape, texts.labels)));
  MPQ_CHECK(transformer::export_classifier(tape.graph(), encoder, labels, output));

  nlohmann::ordered_json json = {{"schema_version", 1},
                                 {"network", encoder},
                                 {"texts", texts.labels.size()},
                                 {"steps", losses.size()},
                                 {"loss", shown}};
  std::string line = fmt::format("{}: {} classes, {} steps on {} texts, loss {:.4f}", output,
                                 labels.size(), losses.size(), texts.labels.size(), shown);
  if (!request.test.empty()) {
    MPQ_TRY(const LabelledTexts test,
            load_labelled_texts(request.test, request.test_limit, tokenizer, graph));
    MPQ_TRY(const double score, train::accuracy(&tape, test.texts, test.labels));
    json["test_texts"] = test.labels.size();
    json["test_accuracy"] = score;
    line += fmt::format("; {:.2f} % of {} test texts", 100.0 * score, test.labels.size());
  }
  if (global.json) return write_text("-", json.dump(2) + "\n");
  if (!global.quiet) fmt::print("{}\n", line);
  return Ok{};
}

}  // namespace mpq::convert::cli
