#include <doctest/doctest.h>

#include "converter/train/fit_texts.h"
#include "encoder_graph.h"
#include "tests/support/temp_folder.h"

namespace mpq::convert::train {
namespace {

const EncoderShape kShape{.layers = 1, .head = EncoderShape::Head::kClassifier};

// Class 2 where word 7 is in the text, else 1 where word 3 is, else 0.
struct Labelled {
  SequenceData texts;
  std::vector<int32_t> labels;
};
Labelled made(size_t count, uint32_t seed) {
  Labelled all;
  std::mt19937 random(seed);
  for (size_t i = 0; i < count; ++i) {
    std::vector<int32_t> ids, types;
    for (size_t t = 0; t < 2 + random() % 8; ++t)
      ids.push_back(static_cast<int32_t>(8 + random() % 30));
    const auto label = static_cast<int32_t>(random() % 3);
    if (label != 0) ids[random() % ids.size()] = label == 1 ? 3 : 7;
    types.resize(ids.size());
    all.texts.add(ids, types);
    all.labels.push_back(label);
  }
  return all;
}

TextRecipe recipe_of(uint64_t steps) {
  TextRecipe recipe;
  recipe.batch = 16;
  recipe.steps = steps;
  recipe.schedule = {.rate = 0.01F, .decay = Decay::kLinear, .warm_up = 0.1};
  recipe.optimizer = {.method = Method::kAdamW, .weight_decay = 0.01F};
  return recipe;
}

std::vector<float> words_of(Tape* tape) {
  for (const Parameter& parameter : tape->parameters())
    if (parameter.name == "embeddings.words") {
      CHECK(!parameter.trained);
      const std::span<const float> data = tape->data(parameter.value);
      return {data.begin(), data.end()};
    }
  return {};
}

}  // namespace

TEST_CASE("fit_texts: a classifier learns a rule, with its tables fixed, in either arithmetic") {
  const Labelled train = made(320, 61), test = made(200, 62);
  for (const bool bfloat16 : {false, true}) {
    auto tape =
        Tape::create(encoder_graph(kShape, 60), {.fixed_words = true, .bfloat16 = bfloat16});
    REQUIRE_MESSAGE(tape.ok(), tape.error().message);
    const std::vector<float> words = words_of(&*tape);
    REQUIRE(!words.empty());
    const auto before = accuracy(&*tape, test.texts, test.labels);
    REQUIRE(before.ok());
    CHECK(*before < 0.7);
    const auto losses =
        fit_texts(&*tape, train.texts, recipe_of(160), classification(&*tape, train.labels));
    REQUIRE_MESSAGE(losses.ok(), losses.error().message);
    CHECK(losses->back() < 0.3 * losses->front());
    const auto after = accuracy(&*tape, test.texts, test.labels);
    REQUIRE(after.ok());
    CHECK(*after > 0.9);
    CHECK(words_of(&*tape) == words);
  }
}

TEST_CASE("fit_texts: stopped runs go on to the same bytes, other labels are another run") {
  const Labelled train = made(64, 63);
  const tests::TempFolder folder;
  const auto trained = [&](TextRecipe recipe, const std::vector<int32_t>& labels) {
    auto tape = Tape::create(encoder_graph(kShape, 60), {});
    REQUIRE(tape.ok());
    const auto losses = fit_texts(&*tape, train.texts, recipe, classification(&*tape, labels));
    const std::span<const float> y = tape->data(tape->output());
    return std::pair(losses.ok() ? *losses : std::vector<double>(),
                     std::vector<float>(y.begin(), y.end()));
  };
  const auto whole = trained(recipe_of(12), train.labels);
  REQUIRE(whole.first.size() == 12);
  TextRecipe recipe = recipe_of(12);
  recipe.checkpoint = (folder.path / "steps").string();
  recipe.checkpoint_steps = 3;
  for (const uint64_t stop : {2, 7}) {
    recipe.progress = [stop](uint64_t step, double) { return step < stop; };
    CHECK(trained(recipe, train.labels).first.empty());
  }
  recipe.progress = {};
  CHECK(trained(recipe, train.labels) == whole);
  std::vector<int32_t> others = train.labels;
  others[5] = (others[5] + 1) % 3;
  CHECK(trained(recipe, others).first.empty());
}

TEST_CASE("fit_texts: labels and numbers that do not fit are named") {
  Labelled train = made(20, 64);
  auto tape = Tape::create(encoder_graph(kShape, 60), {});
  REQUIRE(tape.ok());
  const auto refusal = [&](const TextRecipe& recipe) {
    const auto losses =
        fit_texts(&*tape, train.texts, recipe, classification(&*tape, train.labels));
    return losses.ok() ? std::string() : losses.error().message;
  };
  TextRecipe recipe = recipe_of(2);
  recipe.batch = 21;
  CHECK(refusal(recipe).find("20 texts, 2 steps of 21") != std::string::npos);
  train.labels.assign(20, 3);
  CHECK(refusal(recipe_of(2)).find("label 3 of a network of 3 classes") != std::string::npos);
  train.labels.pop_back();
  const auto scored = accuracy(&*tape, train.texts, train.labels);
  REQUIRE(!scored.ok());
  CHECK(scored.error().message.find("19 labels of 20 texts") != std::string::npos);
}

}  // namespace mpq::convert::train
