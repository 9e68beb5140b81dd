#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "converter/onnx/export.h"
#include "converter/onnx/import.h"
#include "converter/train/checkpoint.h"
#include "converter/train/fit.h"
#include "converter/train/quantizers.h"
#include "converter/train/resnet.h"
#include "graph_builder.h"
#include "striped_images.h"
#include "tests/support/temp_folder.h"

namespace mpq::convert::train {
namespace {

Graph small_resnet(uint64_t seed) {
  return make_resnet({.blocks = 1, .width = 4, .side = 8, .classes = 3}, seed);
}

Recipe short_recipe() {
  Recipe recipe;
  recipe.epochs = 4;
  recipe.batch = 16;
  recipe.schedule.rate = 0.05F;
  recipe.augmentation = {1, true};
  return recipe;
}

std::vector<float> all_parameters(Tape* tape) {
  std::vector<float> all;
  for (const Parameter& parameter : tape->parameters()) {
    const std::span<const float> data = tape->data(parameter.value);
    all.insert(all.end(), data.begin(), data.end());
  }
  return all;
}

}  // namespace

TEST_CASE(
    "fit: a small residual network learns, quantised too, and the same seed gives the same bits") {
  const ImageSet images = striped_images(192, 1), test = striped_images(60, 2);
  auto tape = Tape::create(small_resnet(3), {.batch = 16}),
       again = Tape::create(small_resnet(3), {.batch = 16});
  REQUIRE(tape.ok());
  REQUIRE(again.ok());
  const Recipe recipe = short_recipe();
  const Result<Fitted> fitted = fit(&*tape, nullptr, images, recipe);
  REQUIRE_MESSAGE(fitted.ok(), fitted.error().message);
  CHECK(fitted->steps == 48);
  const Result<double> score = accuracy(&*tape, 16, test);
  REQUIRE(score.ok());
  CHECK(*score > 0.9);
  REQUIRE(fit(&*again, nullptr, images, recipe).ok());
  CHECK(all_parameters(&*tape) == all_parameters(&*again));

  const Graph real = tape->graph();
  auto teacher = Tape::create(real, {.batch = 16});
  REQUIRE(teacher.ok());
  std::vector<float> pixels(16 * images.image_bytes());
  std::vector<size_t> first(16);
  for (size_t i = 0; i < 16; ++i) first[i] = i;
  take_images(images, first, {}, 0, pixels);
  REQUIRE(teacher->forward(pixels, false).ok());
  const Result<Graph> quantised = add_quantizers(real, uniform_bits(real, 2, 4), &*teacher);
  REQUIRE(quantised.ok());
  auto student = Tape::create(*quantised, {.batch = 16});
  REQUIRE(student.ok());
  Recipe fine = recipe;
  fine.schedule.rate = 0.01F;
  fine.frozen_norms = 0.25;
  ImageSet unlabelled = images;  // learns from the float network alone
  unlabelled.labels.clear();
  const Result<Fitted> tuned = fit(&*student, &*teacher, unlabelled, fine);
  REQUIRE_MESSAGE(tuned.ok(), tuned.error().message);
  const Result<double> after = accuracy(&*student, 16, test);
  REQUIRE(after.ok());
  CHECK(*after > 0.85);
}

TEST_CASE("fit: stopped anywhere, it goes on to the same bits") {
  const tests::TempFolder folder;
  const ImageSet images = striped_images(96, 4);
  Recipe recipe = short_recipe();
  recipe.epochs = 2;
  auto whole = Tape::create(small_resnet(5), {.batch = 16});
  REQUIRE(whole.ok());
  REQUIRE(fit(&*whole, nullptr, images, recipe).ok());
  recipe.checkpoint = (folder.path / "run").string();
  std::vector<float> parameters;
  for (const uint64_t stop : {1U, 5U, 6U, 11U, 99U}) {
    auto part = Tape::create(small_resnet(5), {.batch = 16});
    REQUIRE(part.ok());
    const Result<Fitted> fitted =
        fit(&*part, nullptr, images, recipe, [&](const Progress& now) { return now.step != stop; });
    CHECK(fitted.ok() == (stop == 99U));
    parameters = all_parameters(&*part);
  }
  CHECK(parameters == all_parameters(&*whole));
  // A finished run is only read; one of other options or with a flipped bit is refused.
  auto other = Tape::create(small_resnet(5), {.batch = 16});
  REQUIRE(other.ok());
  REQUIRE(fit(&*other, nullptr, images, recipe, [](const Progress&) { return false; }).ok());
  CHECK(all_parameters(&*other) == parameters);
  Recipe changed = recipe;
  changed.seed = 2;
  auto fresh = Tape::create(small_resnet(5), {.batch = 16});
  REQUIRE(fresh.ok());
  const Result<Fitted> refused = fit(&*fresh, nullptr, images, changed);
  REQUIRE(!refused.ok());
  CHECK(refused.error().message.find("other options") != std::string::npos);
  std::fstream file(recipe.checkpoint, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(200);
  file.put('\x5A');
  file.close();
  const Result<Fitted> damaged = fit(&*fresh, nullptr, images, recipe);
  REQUIRE(!damaged.ok());
  CHECK(damaged.error().code == Status::kChecksum);
}

TEST_CASE("fit: refusals, and a loss that is not finite names the layer") {
  auto tape = Tape::create(small_resnet(6), {.batch = 16});
  REQUIRE(tape.ok());
  ImageSet images = striped_images(48, 7);
  const auto message = [&](const ImageSet& set, const Recipe& recipe) {
    const Result<Fitted> fitted = fit(&*tape, nullptr, set, recipe);
    return fitted.ok() ? std::string("accepted") : fitted.error().message;
  };
  ImageSet few = striped_images(9, 7), unlabelled = images, foreign = images;
  unlabelled.labels.clear();
  foreign.labels[3] = 3;
  CHECK(message(few, short_recipe()).find("fewer than a batch") != std::string::npos);
  CHECK(message(unlabelled, short_recipe()).find("without labels") != std::string::npos);
  CHECK(message(foreign, short_recipe()).find("label 3") != std::string::npos);
  for (const Parameter& parameter : tape->parameters())
    if (parameter.name == "layer1.0.conv2.weight") tape->data(parameter.value)[0] = NAN;
  CHECK(message(images, short_recipe()).find("layer1.0.conv2 (conv)") != std::string::npos);
}

TEST_CASE("images: crops and mirrors are those of the counter, pixels are normalised") {
  ImageSet set = striped_images(4, 8);
  const std::vector<size_t> indices = {3, 1};
  std::vector<float> plain(2 * set.image_bytes()), moved(plain.size()), again(plain.size());
  take_images(set, indices, {}, 9, plain);
  CHECK(plain[0] ==
        (static_cast<float>(set.pixels[3 * set.image_bytes()]) / 255.0F - 0.5F) / 0.25F);
  take_images(set, indices, {2, true}, 9, moved);
  take_images(set, indices, {2, true}, 9, again);
  CHECK(moved == again);
  CHECK(moved != plain);
  // Every augmented picture is one of the 2 x 5 x 5 that there are.
  const auto pixel = [&](size_t image, ptrdiff_t y, ptrdiff_t x, size_t c) {
    const bool inside = y >= 0 && y < 8 && x >= 0 && x < 8;
    return inside ? plain[image * set.image_bytes() + static_cast<size_t>(y * 8 + x) * 3 + c]
                  : 0.0F;
  };
  for (size_t image = 0; image < 2; ++image) {
    int matches = 0;
    for (ptrdiff_t down = -2; down <= 2; ++down)
      for (ptrdiff_t right = -2; right <= 2; ++right)
        for (const bool mirror : {false, true}) {
          bool equal = true;
          for (ptrdiff_t y = 0; y < 8; ++y)
            for (ptrdiff_t x = 0; x < 8; ++x)
              for (size_t c = 0; c < 3; ++c)
                equal = equal &&
                        moved[image * set.image_bytes() + static_cast<size_t>(y * 8 + x) * 3 + c] ==
                            pixel(image, y + down, (mirror ? 7 - x : x) + right, c);
          matches += equal ? 1 : 0;
        }
    CHECK(matches == 1);
  }
  std::vector<size_t> order = shuffled(100, 1, 0);
  CHECK(order != shuffled(100, 1, 1));
  std::sort(order.begin(), order.end());
  for (size_t i = 0; i < 100; ++i) CHECK(order[i] == i);
}

TEST_CASE("resnet: the published sizes, and weights of a checkpoint by name") {
  const Result<ResnetSpec> spec = resnet_by_name("resnet20");
  REQUIRE(spec.ok());
  Graph graph = make_resnet(*spec, 1);
  REQUIRE_MESSAGE(check(graph).ok(), check(graph).error().message);
  size_t weights = 0, layers = 0;
  for (const Node& node : graph.nodes) {
    if (!std::holds_alternative<Conv>(node.op) && !std::holds_alternative<Linear>(node.op))
      continue;
    if (node.name.find("shortcut") != std::string::npos) continue;
    ++layers;
    weights += graph.values[node.inputs[1]].data.size();
  }
  CHECK(layers == 20);
  CHECK(weights == 432 + 6 * 2304 + 4608 + 5 * 9216 + 18432 + 5 * 36864 + 640);
  CHECK(!resnet_by_name("resnet21").ok());
  CHECK(!resnet_by_name("vgg").ok());
  Checkpoint checkpoint;
  REQUIRE(!load_weights({}, &graph).ok());
  for (const Value& value : graph.values)
    if (value.is_constant && value.name.find("shortcut") == std::string::npos)
      checkpoint["module." + value.name] = {value.shape,
                                            std::vector<float>(value.data.size(), 2.0F)};
  REQUIRE(load_weights(checkpoint, &graph).ok());
  CHECK(graph.values[graph.nodes[0].inputs[1]].data[0] == 2.0F);
}

TEST_CASE("export: a network with quantisers is the same when ONNX is read again") {
  const tests::TempFolder folder;
  const Graph real = small_resnet(10);
  auto start = Tape::create(real, {.batch = 2});
  REQUIRE(start.ok());
  GraphBuilder b(13);
  REQUIRE(start->forward(b.random_data(2 * 192), false).ok());
  BitsMap bits = uniform_bits(real, 4, 4);
  bits["layer2.0.conv1"] = {2, 2};
  const Result<Graph> quantised = add_quantizers(real, bits, &*start),
                      by_channel = add_quantizers(real, bits, &*start, {.channel_steps = true});
  REQUIRE(quantised.ok());
  REQUIRE(by_channel.ok());
  for (const Graph* graph : {&real, &*quantised, &*by_channel}) {
    const auto bytes = export_onnx(*graph);
    REQUIRE_MESSAGE(bytes.ok(), bytes.error().message);
    const std::string path = (folder.path / "net.onnx").string();
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes->data()),
               static_cast<std::streamsize>(bytes->size()));
    const auto imported = import_onnx(path);
    REQUIRE_MESSAGE(imported.ok(), imported.error().message);
    CHECK(imported->graph.nodes.size() == graph->nodes.size());
    auto before = Tape::create(*graph, {.batch = 2}),
         after = Tape::create(imported->graph, {.batch = 2});
    REQUIRE(before.ok());
    REQUIRE(after.ok());
    const std::vector<float> images = b.random_data(2 * 192);
    REQUIRE(before->forward(images, false).ok());
    REQUIRE(after->forward(images, false).ok());
    const std::span<const float> x = before->data(before->output()),
                                 y = after->data(after->output());
    CHECK(std::equal(x.begin(), x.end(), y.begin(), y.end()));
    for (size_t n = 0; n < graph->nodes.size(); ++n) {
      if (!graph->nodes[n].weight_quant) continue;
      const WeightQuant &written = *graph->nodes[n].weight_quant,
                        &read = *imported->graph.nodes[n].weight_quant;
      CHECK(read.codes == written.codes);
      REQUIRE(read.positions.size() == read.codes.size());
      for (size_t i = 0; i < read.codes.size(); ++i) {  // inside the range they are the same
        const float code = written.codes[i];
        const float place = std::clamp(written.positions[i] - code, -0.499F, 0.499F);
        CHECK(read.positions[i] == doctest::Approx(code + place).epsilon(1e-5));
      }
    }
  }
}

}  // namespace mpq::convert::train
