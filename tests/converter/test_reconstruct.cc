#include <doctest/doctest.h>

#include <fstream>

#include "converter/train/distil.h"
#include "converter/train/quantizers.h"
#include "converter/train/reconstruct.h"
#include "converter/train/resnet.h"
#include "graph_builder.h"
#include "quantised_encoder.h"
#include "tests/support/temp_folder.h"

namespace mpq::convert::train {

TEST_CASE("reconstruct: every block comes nearer to float, so does the network") {
  Graph real = make_resnet({.blocks = 2, .width = 4, .side = 8, .classes = 3}, 14);
  GraphBuilder b(15);
  for (const Node& node : real.nodes)  // as if trained: moments that are not 0 and 1
    if (std::holds_alternative<BatchNorm>(node.op)) {
      const size_t channels = real.values[node.inputs[1]].data.size();
      real.values[node.inputs[1]].data = b.random_data(channels, 0.4F, 1.0F);
      real.values[node.inputs[3]].data = b.random_data(channels, 0.2F);
    }
  constexpr size_t kCount = 64, kImage = 192;
  const std::vector<float> samples = b.random_data(kCount * kImage),
                           fresh = b.random_data(16 * kImage);
  auto start = Tape::create(real, {.batch = 16});
  REQUIRE(start.ok());
  REQUIRE(start->forward(std::span(samples).first(16 * kImage), false).ok());
  const Result<Graph> quantised = add_quantizers(real, uniform_bits(real, 2, 4), &*start);
  REQUIRE(quantised.ok());
  Graph graph = *quantised;
  ReconstructOptions options;
  options.batch = 16;
  options.steps = 40;
  options.schedule.rate = 0.03F;
  const auto reports = reconstruct(real, &graph, samples, kCount, options);
  REQUIRE_MESSAGE(reports.ok(), reports.error().message);
  REQUIRE(reports->size() == 8);  // stem, six blocks, classifier
  CHECK(reports->at(1).last == "layer1.0.relu2");
  CHECK(reports->at(1).layers == 2);
  CHECK(reports->at(3).layers == 3);
  for (const BlockReport& report : *reports) CHECK(report.after <= report.before);
  const auto error = [&](const Graph& of) {
    auto expected = Tape::create(real, {.batch = 16}), got = Tape::create(of, {.batch = 16});
    REQUIRE(expected.ok());
    REQUIRE_MESSAGE(got.ok(), got.error().message);
    REQUIRE(expected->forward(fresh, false).ok());
    REQUIRE(got->forward(fresh, false).ok());
    const std::span<const float> x = expected->data(expected->output()),
                                 y = got->data(got->output());
    double sum = 0.0;
    for (size_t i = 0; i < x.size(); ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
    return sum;
  };
  CHECK(error(graph) < 0.7 * error(*quantised));
  Graph again = *quantised;
  CHECK(!reconstruct(real, &again, samples, 15, options).ok());

  // Stopped behind any block, it goes on to the same bits; a file of other options is refused, and
  // so is a damaged one.
  const tests::TempFolder folder;
  options.checkpoint = (folder.path / "blocks").string();
  for (const size_t stop : {size_t{1}, size_t{4}, reports->size()}) {
    again = *quantised;
    options.progress = [&](size_t done, size_t all, const BlockReport&) {
      return done < stop || done == all;
    };
    CHECK(reconstruct(real, &again, samples, kCount, options).ok() == (stop == reports->size()));
  }
  CHECK(error(again) == error(graph));
  again = *quantised;
  const auto known = reconstruct(real, &again, samples, kCount, options);  // all from the file
  REQUIRE(known.ok());
  CHECK(known->at(2).after == reports->at(2).after);
  CHECK(error(again) == error(graph));
  options.drop_share = 0.25F;
  again = *quantised;
  CHECK(!reconstruct(real, &again, samples, kCount, options).ok());
  options.drop_share = 0.5F;
  std::fstream(options.checkpoint, std::ios::binary | std::ios::in | std::ios::out)
      .seekp(200)
      .put('?');
  CHECK(!reconstruct(real, &again, samples, kCount, options).ok());
  // bfloat16 comes near the same.
  ReconstructOptions rounded = options;
  rounded.checkpoint.clear();
  rounded.bfloat16 = true;
  again = *quantised;
  REQUIRE(reconstruct(real, &again, samples, kCount, rounded).ok());
  CHECK(error(again) < 0.8 * error(*quantised));
}

TEST_CASE("distil: an encoder on codes comes nearer to float on other texts, stopped or not") {
  const EncoderShape shape{.layers = 2, .head = Head::kMean};
  const Graph real = EncoderBuilder(shape, 31).build();
  const Graph start = quantised(shape, real, bits_of(real, 2, 4)).graph;
  const SequenceData texts = calibration(shape), others = fresh(shape);
  const auto error = [&](const Graph& of) {
    const std::vector<float> x = outputs(real, others), y = outputs(of, others);
    double sum = 0.0;
    for (size_t i = 0; i < x.size(); ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
    return sum;
  };
  DistilOptions options;
  options.batch = 8;
  options.steps = 120;
  options.schedule.rate = 0.02F;
  Graph graph = start;
  const auto report = distil(real, &graph, texts, options);
  REQUIRE_MESSAGE(report.ok(), report.error().message);
  CHECK(report->after < 0.8 * report->before);
  CHECK(error(graph) < 0.9 * error(start));
  CHECK(lower(graph, {}).ok());

  const tests::TempFolder folder;
  options.checkpoint = (folder.path / "steps").string();
  options.checkpoint_steps = 7;
  Graph again = start;
  for (const uint64_t stop : {5, 20, 120}) {
    again = start;
    options.progress = [&](uint64_t step, double) { return step < stop || step == 120; };
    CHECK(distil(real, &again, texts, options).ok() == (stop == 120));
  }
  CHECK(outputs(again, others) == outputs(graph, others));
  options.hidden_share = 0.25F;  // another run's file
  again = start;
  CHECK(!distil(real, &again, texts, options).ok());
  options.checkpoint.clear();
  options.batch = 17;  // more than there are
  CHECK(!distil(real, &again, texts, options).ok());
  options.batch = 8;
  Graph renamed = start;
  for (Node& node : renamed.nodes)
    if (std::holds_alternative<LayerNorm>(node.op)) node.name += "x";
  const auto missing = distil(real, &renamed, texts, options);
  REQUIRE(!missing.ok());
  CHECK(missing.error().message.find("embeddings.norm") != std::string::npos);
}

}  // namespace mpq::convert::train
