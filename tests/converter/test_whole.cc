#include <doctest/doctest.h>

#include <cmath>

#include "converter/train/quantizers.h"
#include "converter/train/resnet.h"
#include "converter/train/whole.h"
#include "graph_builder.h"
#include "striped_images.h"
#include "tests/support/temp_folder.h"

namespace mpq::convert::train {
namespace {

Graph as_if_trained(uint64_t seed) {
  Graph real = make_resnet({.blocks = 1, .width = 4, .side = 8, .classes = 3}, seed);
  GraphBuilder b(seed);
  for (const Node& node : real.nodes)  // moments that are not 0 and 1
    if (std::holds_alternative<BatchNorm>(node.op)) {
      const size_t channels = real.values[node.inputs[1]].data.size();
      real.values[node.inputs[1]].data = b.random_data(channels, 0.4F, 1.0F);
      real.values[node.inputs[3]].data = b.random_data(channels, 0.2F);
    }
  return real;
}

std::vector<float> images_of(const ImageSet& set, size_t count) {
  std::vector<size_t> first(count);
  for (size_t i = 0; i < count; ++i) first[i] = i;
  std::vector<float> pixels(count * set.image_bytes());
  take_images(set, first, {}, 0, pixels);
  return pixels;
}

Graph on_codes(const Graph& real, const ImageSet& images) {
  auto tape = Tape::create(real, {.batch = 16});
  REQUIRE(tape.ok());
  REQUIRE(tape->forward(images_of(images, 16), false).ok());
  const Result<Graph> graph = add_quantizers(real, uniform_bits(real, 2, 4), &*tape);
  REQUIRE(graph.ok());
  return *graph;
}

std::vector<float> outputs(const Graph& graph, const ImageSet& images) {
  auto tape = Tape::create(graph, {.batch = 16});
  REQUIRE(tape.ok());
  REQUIRE(tape->forward(images_of(images, 16), false).ok());
  const std::span<const float> y = tape->data(tape->output());
  return {y.begin(), y.end()};
}

WholeOptions short_options() {
  WholeOptions options;
  options.recipe.steps = 60;
  options.recipe.schedule.rate = 0.03F;
  options.recipe.augmentation.pad = 1;
  options.held_out = 24;
  return options;
}

}  // namespace

TEST_CASE("whole: a network on codes comes nearer to float on images that it never saw") {
  const Graph real = as_if_trained(21);
  const ImageSet images = striped_images(120, 8);
  const Graph start = on_codes(real, images);
  const WholeOptions options = short_options();
  for (const bool rounded : {false, true}) {
    Graph graph = start;
    WholeOptions how = options;
    how.bfloat16 = rounded;
    const auto report = train_whole(real, &graph, images, how);
    REQUIRE_MESSAGE(report.ok(), report.error().message);
    CHECK(report->steps == 60);
    CHECK(report->kept);
    CHECK(report->after.divergence < 0.7 * report->before.divergence);
    CHECK(report->after.agreement >= report->before.agreement);
    CHECK(outputs(graph, images) != outputs(start, images));
  }
  // What came no nearer is not kept: of a rate that moves nothing, or far too much.
  for (const float rate : {0.0F, 30.0F}) {
    Graph graph = start;
    WholeOptions how = options;
    how.recipe.schedule.rate = rate;
    const auto report = train_whole(real, &graph, images, how);
    REQUIRE_MESSAGE(report.ok(), report.error().message);
    CHECK(!report->kept);
    CHECK(outputs(graph, images) == outputs(start, images));
  }
}

TEST_CASE("whole: weights start within their codes, none on another or where it has no gradient") {
  const Graph real = as_if_trained(24);
  Graph graph = on_codes(real, striped_images(16, 11));
  for (const bool known : {true, false}) {
    CAPTURE(known);
    for (Node& node : graph.nodes)
      if (node.weight_quant && !known) node.weight_quant->positions.clear();
    Graph within = graph;
    start_within(1, &within);
    auto tape = Tape::create(within, {.batch = 1});
    REQUIRE(tape.ok());
    const Graph back = tape->graph();
    size_t all = 0, moved = 0, at_home = 0, wide = 0;
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
      const Node& node = graph.nodes[n];
      if (!node.weight_quant) continue;
      const auto& [spec, codes, positions] = *node.weight_quant;
      CHECK(back.nodes[n].weight_quant->codes == codes);
      const std::vector<float>& w = within.values[node.inputs[1]].data;
      all += w.size();
      for (size_t i = 0; i < w.size(); ++i) {
        const float place = w[i] / spec.scale[i / (w.size() / spec.scale.size())];
        CHECK(place <= static_cast<float>(spec.hi));
        CHECK(place >= static_cast<float>(spec.lo));
        const auto code = static_cast<float>(codes[i]);
        moved += std::abs(place - code) > 0.2F ? 1 : 0;
        if (!known || std::abs(positions[i] - code) > 0.44F || codes[i] == spec.lo ||
            codes[i] == spec.hi)
          continue;
        ++wide;
        at_home += std::abs(place - positions[i]) < 1e-4F ? 1 : 0;
      }
    }
    CHECK(moved > all / 6);
    CHECK(at_home == wide);
    CHECK((!known || wide > all / 6));
  }
}

TEST_CASE("whole: stopped anywhere it goes on to the same bits; another run's file is refused") {
  const Graph real = as_if_trained(22);
  const ImageSet images = striped_images(72, 9);
  const Graph start = on_codes(real, images);
  WholeOptions options = short_options();
  options.recipe.steps = 12;
  Graph through = start;
  REQUIRE(train_whole(real, &through, images, options).ok());
  const tests::TempFolder folder;
  options.recipe.checkpoint = (folder.path / "steps").string();
  Graph graph;
  for (const uint64_t stop : {1U, 7U, 99U}) {
    graph = start;
    const auto report = train_whole(real, &graph, images, options,
                                    [&](const Progress& now) { return now.step != stop; });
    CHECK(report.ok() == (stop == 99U));
  }
  CHECK(outputs(graph, images) == outputs(through, images));
  options.hidden_share = 0.25F;
  CHECK(!train_whole(real, &graph, images, options).ok());
}

TEST_CASE("whole: what cannot be learned from is named") {
  const Graph real = as_if_trained(23);
  const ImageSet images = striped_images(48, 10);
  const Graph start = on_codes(real, images);
  const auto message = [&](const Graph& from, const WholeOptions& options) {
    Graph graph = start;
    const auto report = train_whole(from, &graph, images, options);
    return report.ok() ? std::string("accepted") : report.error().message;
  };
  WholeOptions none = short_options(), few = none;
  none.held_out = 48;
  few.held_out = 40;
  CHECK(message(real, none).find("48 of 48 images") != std::string::npos);
  CHECK(message(real, few).find("8 images are fewer than a batch of 16") != std::string::npos);
  Graph renamed = real;
  for (Node& node : renamed.nodes)
    if (std::holds_alternative<Relu>(node.op)) node.name += "x";
  CHECK(message(renamed, short_options()).find("has no node '") != std::string::npos);
}

}  // namespace mpq::convert::train
