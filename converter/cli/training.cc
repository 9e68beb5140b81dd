#include "converter/cli/training.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "converter/cli/images.h"
#include "converter/cli/progress.h"
#include "converter/data/dataset.h"
#include "converter/data/image.h"
#include "converter/data/write_file.h"
#include "converter/lower.h"
#include "converter/passes/pass.h"
#include "format/writer.h"

namespace mpq::convert::cli {
namespace {

template <typename Enum>
struct Word {
  const char* name;
  Enum value;
};
constexpr Word<train::Method> kMethods[] = {{"sgd", train::Method::kSgd},
                                            {"adamw", train::Method::kAdamW}};
constexpr Word<train::Decay> kDecays[] = {{"cosine", train::Decay::kCosine},
                                          {"linear", train::Decay::kLinear},
                                          {"constant", train::Decay::kConstant}};

template <typename Enum, size_t n>
Checked find_word(const char* option, const std::string& word, const Word<Enum> (&words)[n],
                  Enum* value) {
  std::string known;
  for (const Word<Enum>& row : words) {
    known += (known.empty() ? "" : ", ") + std::string(row.name);
    if (word != row.name) continue;
    *value = row.value;
    return Ok{};
  }
  return Error{Status::kInvalidArgument,
               std::string(option) + ": '" + word + "' is none of " + known};
}

}  // namespace

void add_training_options(CLI::App* app, TrainingRequest* r) {
  app->add_option(
         "--dataset", r->dataset,
         "images with classes: a folder, a tar, or MNIST's ...images-idx3-ubyte[.gz]; texts: "
         "glue-tsv:FILE, tsv:FILE, ...")
      ->required();
  app->add_option("--test", r->test, "images or texts to score: the same kinds");
  app->add_option("--limit", r->limit, "first N samples only")->type_name("N");
  app->add_option("--test-limit", r->test_limit, "first N samples of the test only")
      ->type_name("N");
  app->add_option("--preset", r->preset, "preprocessing (help: convert)")->capture_default_str();
  const auto number = [&](const char* name, auto* value, const char* what) {
    app->add_option(name, *value, what)->capture_default_str()->type_name("X");
  };
  train::Recipe& recipe = r->recipe;
  number("--epochs", &recipe.epochs, "passes over the set");
  number("--steps", &recipe.steps, "batches in all, instead of epochs");
  number("--batch", &recipe.batch, "samples a step");
  number("--rate", &recipe.schedule.rate, "learning rate");
  number("--decay", &r->decay, "of the rate: cosine, linear, constant");
  number("--warm-up", &recipe.schedule.warm_up, "share of the steps over which the rate rises");
  number("--optimizer", &r->optimizer, "sgd or adamw");
  number("--momentum", &recipe.optimizer.momentum, "of sgd");
  app->add_flag("--nesterov", recipe.optimizer.nesterov, "Nesterov's momentum");
  number("--weight-decay", &recipe.optimizer.weight_decay, "of weights; a quarter of it at 2 bits");
  number("--largest-norm", &recipe.optimizer.largest_norm,
         "of all gradients together, longer ones are shortened; 0: any");
  number("--crop", &recipe.augmentation.pad, "random crops out of so many pixels of padding");
  app->add_flag("--flip", recipe.augmentation.flip, "mirror every other image");
  number("--frozen-norms", &recipe.frozen_norms,
         "last share of the steps with batch norm's moments fixed");
  app->add_flag("--bfloat16", recipe.bfloat16,
                "convolutions and linear layers multiply in bfloat16 while training; scores are "
                "binary32's");
  number("--seed", &recipe.seed, "of order, augmentation and first weights");
  app->add_option("--checkpoint", recipe.checkpoint,
                  "file to resume from, written every minute: a run that was killed goes on to "
                  "the same bytes");
  number("--checkpoint-steps", &recipe.checkpoint_steps, "write it every so many steps too");
}

Checked finish_request(TrainingRequest* request) {
  train::Recipe& recipe = request->recipe;
  MPQ_CHECK(find_word("--optimizer", request->optimizer, kMethods, &recipe.optimizer.method));
  MPQ_CHECK(find_word("--decay", request->decay, kDecays, &recipe.schedule.decay));
  return Ok{};
}

Result<LabelledImages> load_images(const std::string& path, uint32_t limit,
                                   const format::ImagePreprocess& image, bool quiet) {
  MPQ_TRY(const data::ImageDataset dataset, data::ImageDataset::open(path));
  const size_t count =
      limit == 0 ? dataset.samples().size() : std::min<size_t>(limit, dataset.samples().size());
  LabelledImages images;
  images.classes = dataset.class_names();
  train::ImageSet& set = images.set;
  set.height = image.crop_h;
  set.width = image.crop_w;
  set.mean = image.mean;
  set.stddev = image.stddev;
  set.pixels.reserve(count * set.image_bytes());
  Progress progress("reading images", quiet);
  bool labelled = true;
  for (size_t i = 0; i < count; ++i) {
    // A folder a class: every class should be among the first N.
    const size_t at = i * dataset.samples().size() / count;
    MPQ_TRY(const std::vector<std::byte> bytes, dataset.read(at));
    MPQ_TRY(const data::Image decoded, data::decode_image(bytes, dataset.samples()[at].path));
    MPQ_TRY(const std::vector<uint8_t> pixels, data::preprocess(decoded, image));
    set.pixels.insert(set.pixels.end(), pixels.begin(), pixels.end());
    set.labels.push_back(dataset.samples()[at].label);
    labelled = labelled && dataset.samples()[at].label >= 0;
    progress.update(i + 1, count, "");
  }
  if (!labelled) set.labels.clear();
  return images;
}

Result<train::Tape> observed(const Graph& graph, const train::Recipe& recipe,
                             const train::ImageSet& images) {
  const uint32_t batch = recipe.batch;
  MPQ_TRY(train::Tape tape, train::Tape::create(graph, train::tape_options(recipe)));
  std::vector<size_t> first = train::shuffled(images.count(), recipe.seed, 0);
  first.resize(std::min<size_t>(batch, first.size()));
  if (first.size() < batch)
    return Error{Status::kInvalidArgument, std::to_string(images.count()) +
                                               " images are fewer than a batch of " +
                                               std::to_string(batch)};
  std::vector<float> pixels(batch * images.image_bytes());
  train::take_images(images, first, {}, recipe.seed, pixels);
  MPQ_CHECK(tape.forward(pixels, false));
  return tape;
}

Result<train::Fitted> run_fit(const std::string& what, train::Tape* tape, train::Tape* teacher,
                              const train::ImageSet& images, const train::Recipe& recipe,
                              bool quiet) {
  Progress progress(what, quiet);
  return train::fit(tape, teacher, images, recipe, [&](const train::Progress& now) {
    progress.update(now.step, now.steps,
                    fmt::format("loss {:.4f}, {:.2f} % right, rate {:.2g}", now.loss,
                                100.0 * now.accuracy, now.rate));
    return true;
  });
}

Result<double> score(const train::Tape& tape, uint32_t batch, const train::ImageSet& images) {
  MPQ_TRY(train::Tape exact, train::Tape::create(tape.graph(), {.batch = batch}));
  return train::accuracy(&exact, batch, images);
}

Checked write_model(Graph graph, format::PrecisionMap map, const format::ImagePreprocess& image,
                    const std::string& preset, std::vector<std::string> labels,
                    const std::string& path) {
  MPQ_CHECK(fold_bn(&graph));
  MPQ_CHECK(fold_constants(&graph));
  MPQ_TRY(LoweredModel lowered, lower(graph, {.image_input = true, .image = image}));
  format::Model& model = lowered.model;
  model.producer = "mpqconvert " MPQ_VERSION;
  model.map = std::move(map);
  model.labels = std::move(labels);
  model.metadata.emplace_back("preset", preset);
  MPQ_TRY(const std::vector<std::byte> bytes, format::write(model));
  return data::write_file(path, bytes);
}

}  // namespace mpq::convert::cli
