// ALPS: what a drop changes, gains against runs by hand, resumed and parallel runs.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "converter/precision/alps.h"
#include "converter/precision/imported.h"
#include "converter/precision/spec.h"
#include "converter/train/quantizers.h"
#include "converter/train/resnet.h"
#include "striped_images.h"
#include "tests/support/temp_folder.h"

namespace mpq::convert::precision {
namespace {

using train::striped_images;
using train::Tape;

train::Recipe short_recipe() {
  train::Recipe recipe;
  recipe.steps = 6;
  recipe.batch = 16;
  recipe.schedule = {.rate = 0.002F, .decay = train::Decay::kConstant};
  return recipe;
}

// A trained network of three convolution groups and the ends, at 4 bit.
struct Trained {
  train::ImageSet images = striped_images(96, 1);
  Graph graph;
  Selection selection;

  Trained() {
    train::Recipe recipe = short_recipe();
    recipe.steps = 24;
    recipe.schedule.rate = 0.05F;
    Graph real = train::make_resnet({.blocks = 1, .width = 4, .side = 8, .classes = 3}, 3);
    auto tape = Tape::create(real, {.batch = 16});
    REQUIRE(tape.ok());
    REQUIRE(train::fit(&*tape, nullptr, images, recipe).ok());
    real = tape->graph();
    auto start = observed(real);
    auto quantised = train::add_quantizers(real, uniform_bits(real, 4, 4), &start);
    REQUIRE(quantised.ok());
    auto student = Tape::create(*quantised, {.batch = 16});
    REQUIRE(student.ok());
    recipe.steps = 12;
    recipe.schedule.rate = 0.01F;
    REQUIRE(train::fit(&*student, nullptr, images, recipe).ok());
    graph = student->graph();
    selection = *Selection::of(graph);
  }

  Tape observed(const Graph& real) const {
    auto tape = Tape::create(real, {.batch = 16});
    REQUIRE(tape.ok());
    std::vector<size_t> first(16);
    for (size_t i = 0; i < first.size(); ++i) first[i] = i;
    std::vector<float> pixels(16 * images.image_bytes());
    train::take_images(images, first, {}, 0, pixels);
    REQUIRE(tape->forward(pixels, false).ok());
    return *std::move(tape);
  }

  Result<AlpsResult> measure(const AlpsOptions& options) const {
    Tape start = observed(train::without_quantizers(graph));
    return alps(graph, &start, nullptr, images, options);
  }
};

}  // namespace

TEST_CASE("alps: a drop changes the group's members, their input, and nothing else") {
  const Trained trained;
  Tape start = trained.observed(train::without_quantizers(trained.graph));
  const auto before = imported_map(trained.graph);
  REQUIRE(before.ok());
  for (uint32_t g = 0; g < trained.selection.groups.size(); ++g) {
    if (trained.selection.groups[g].fixed) continue;
    for (const StepReset reset :
         {StepReset::kMse, StepReset::kLsq, StepReset::kRange, StepReset::kClip}) {
      const auto dropped = drop_group(trained.graph, &start, trained.selection, g, 2, reset);
      REQUIRE_MESSAGE(dropped.ok(), dropped.error().message);
      const auto after = imported_map(*dropped);
      REQUIRE(after.ok());
      for (size_t i = 0; i < after->layers.size(); ++i) {
        const bool member = after->layers[i].group == g;
        CHECK(after->layers[i].weight_bits == (member ? 2 : before->layers[i].weight_bits));
        CHECK(after->layers[i].activation_bits == (member ? 2 : before->layers[i].activation_bits));
        const auto find = [&](const Graph& in) -> const Node& {
          return *std::find_if(in.nodes.begin(), in.nodes.end(), [&](const Node& node) {
            return node.name == after->layers[i].node;
          });
        };
        const Node &old = find(trained.graph), &now = find(*dropped);
        const QuantSpec &from = old.weight_quant->spec, &to = now.weight_quant->spec;
        const auto step_of = [](const Graph& in, const Node& node) {
          const int at = input_quantiser(in, node);
          if (at < 0) return 1.0F;
          return std::get<FakeQuant>(in.nodes[static_cast<size_t>(at)].op).spec.scale[0];
        };
        const float input = step_of(*dropped, now) / step_of(trained.graph, old);
        if (!member) {
          CHECK(now.weight_quant->codes == old.weight_quant->codes);
          CHECK(to.scale == from.scale);
          CHECK(input == 1.0F);
        } else if (reset == StepReset::kRange) {
          CHECK(to.scale[0] == 4.0F * from.scale[0]);
          CHECK(input == doctest::Approx(4.0));
        } else if (reset == StepReset::kClip) {
          CHECK(to.scale[0] == doctest::Approx(7.0F * from.scale[0]));
          CHECK(input == doctest::Approx(5.0));  // behind a ReLU
        }
      }
    }
  }
}

TEST_CASE("alps: gains are differences of losses, batch by batch, of runs made by hand") {
  const Trained trained;
  AlpsOptions options;
  options.recipe = short_recipe();
  const auto result = trained.measure(options);
  REQUIRE_MESSAGE(result.ok(), result.error().message);
  CHECK(result->groups.size() == trained.selection.selectable_groups());
  CHECK(result->reference.gain == 0.0);
  const auto by_hand = [&](Graph graph) {
    auto tape = Tape::create(std::move(graph), {.batch = 16});
    REQUIRE(tape.ok());
    const auto fitted = train::fit(&*tape, nullptr, trained.images, options.recipe);
    REQUIRE(fitted.ok());
    REQUIRE(fitted->losses.size() == 3);
    return *fitted;
  };
  const train::Fitted reference = by_hand(trained.graph);
  Tape start = trained.observed(train::without_quantizers(trained.graph));
  for (const AlpsRow& row : result->groups) {
    const auto dropped =
        drop_group(trained.graph, &start, trained.selection, row.group, 2, StepReset::kMse);
    REQUIRE(dropped.ok());
    const train::Fitted run = by_hand(*dropped);
    double d[3], mean = 0.0, variance = 0.0;
    for (size_t i = 0; i < 3; ++i) mean += (d[i] = run.losses[i] - reference.losses[i]) / 3;
    for (const double v : d) variance += (v - mean) * (v - mean) / 2;
    CHECK(row.gain == doctest::Approx(mean));
    CHECK(row.standard_error == doctest::Approx(std::sqrt(variance / 3)));
    CHECK(row.gain != 0.0);
    CHECK(row.seconds > 0.0);
  }
  options.by_accuracy = true;
  const auto accuracy = trained.measure(options);
  REQUIRE(accuracy.ok());
  for (const AlpsRow& row : accuracy->groups)
    CHECK(row.gain == doctest::Approx(accuracy->reference.accuracy - row.accuracy));
}

TEST_CASE("alps: stopped anywhere and resumed, or several groups at a time, the same bytes") {
  const tests::TempFolder folder;
  const Trained trained;
  AlpsOptions options;
  options.recipe = short_recipe();
  options.recipe.checkpoint_steps = 2;
  const auto whole = trained.measure(options);
  REQUIRE(whole.ok());
  const std::string expected = print_gains(*whole, trained.selection, options);
  options.jobs = 3;
  const auto parallel = trained.measure(options);
  REQUIRE(parallel.ok());
  CHECK(print_gains(*parallel, trained.selection, options) == expected);

  options.folder = (folder.path / "runs").string();
  std::string found;
  int stops = 0;
  for (const int after : {1, 3, 7, 9, 5, 2, 99}) {
    options.jobs = after % 2 == 0 ? 2 : 1;
    int calls = 0;
    options.progress = [&](size_t, size_t, const std::string&) { return ++calls < after; };
    const auto part = trained.measure(options);
    stops += part.ok() ? 0 : 1;
    if (part.ok()) found = print_gains(*part, trained.selection, options);
  }
  CHECK(stops >= 4);
  CHECK(found == expected);
  options.progress = nullptr;
  options.recipe.seed = 9;
  const auto refused = trained.measure(options);
  REQUIRE(!refused.ok());
  CHECK(refused.error().message.find("other options") != std::string::npos);
}

TEST_CASE("alps: its file is what the selector reads; networks without codes are refused") {
  const tests::TempFolder folder;
  const Trained trained;
  AlpsOptions options;
  options.recipe = short_recipe();
  options.recipe.steps = 2;
  const auto result = trained.measure(options);
  REQUIRE(result.ok());
  const std::string path = (folder.path / "gains.json").string();
  std::ofstream(path) << print_gains(*result, trained.selection, options);
  const auto map = make_map(trained.graph, "alps:budget=0.8,file=" + path);
  REQUIRE_MESSAGE(map.ok(), map.error().message);
  CHECK(map->map.method == "alps");
  for (const AlpsRow& row : result->groups) {
    CHECK(map->map.groups[row.group].gain == row.gain);
    CHECK(map->map.groups[row.group].gain_stderr == row.standard_error);
  }
  const Graph real = train::without_quantizers(trained.graph);
  Tape start = trained.observed(real);
  const auto refused = alps(real, &start, nullptr, trained.images, options);
  REQUIRE(!refused.ok());
  CHECK(refused.error().message.find("no codes") != std::string::npos);
}

}  // namespace mpq::convert::precision
