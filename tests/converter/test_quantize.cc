#include <doctest/doctest.h>
#include <sched.h>

#include <algorithm>
#include <cmath>

#include "converter/eval.h"
#include "converter/lower.h"
#include "converter/passes/quantize.h"
#include "converter/report.h"
#include "format/validate.h"
#include "graph_builder.h"

namespace mpq::convert {
namespace {

// Conv, pool, a bottleneck with a projection and one without, classifier: a residual network in
// small.
Graph small_net(uint32_t seed) {
  GraphBuilder b(seed);
  const auto conv = [&](ValueId x, int64_t out, int64_t in, int64_t k, uint32_t stride) {
    const auto pad = static_cast<uint32_t>(k / 2);
    const float deviation = 1.4F / std::sqrt(static_cast<float>(in * k * k));
    return b.node(Conv{stride, stride, pad, pad, pad, pad},
                  {x, b.random({out, in, k, k}, deviation), b.random({out}, 0.2F)});
  };
  ValueId x = b.node(Relu{}, {conv(b.input({1, 3, 24, 24}), 8, 3, 3, 1)});
  x = b.node(MaxPool{3, 3, 2, 2, 1, 1, 1, 1}, {x});
  for (const bool project : {true, false}) {
    const int64_t in = project ? 8 : 16;
    const uint32_t stride = project ? 2 : 1;
    ValueId y = b.node(Relu{}, {conv(x, 8, in, 1, 1)});
    y = b.node(Relu{}, {conv(y, 8, 8, 3, stride)});
    y = conv(y, 16, 8, 1, 1);
    const ValueId skip = project ? conv(x, 16, in, 1, stride) : x;
    x = b.node(Relu{}, {b.node(Add{}, {y, skip})});
  }
  x = b.node(Flatten{}, {b.node(AvgPool{}, {x})});
  return b.finish(b.node(Linear{}, {x, b.random({10, 16}, 0.3F), b.random({10}, 0.1F)}));
}

constexpr uint32_t kCount = 48;
constexpr size_t kImage = 3 * 24 * 24;
std::vector<float> samples(uint32_t seed, uint32_t count = kCount) {
  return GraphBuilder(seed).random_data(count * kImage);
}

std::vector<float> outputs(const Graph& graph, const std::vector<float>& data) {
  Result<Evaluator> evaluator =
      Evaluator::create(graph, static_cast<uint32_t>(data.size() / kImage));
  REQUIRE(evaluator.ok());
  const Result<std::vector<float>> y = evaluator->run(data);
  REQUIRE(y.ok());
  return *y;
}

double decibels(const std::vector<float>& real, const std::vector<float>& other) {
  double s = 0.0, n = 0.0;
  for (size_t i = 0; i < real.size(); ++i) {
    s += double{real[i]} * real[i];
    n += (double{real[i]} - other[i]) * (double{real[i]} - other[i]);
  }
  return 10.0 * std::log10(s / n);
}

size_t count_of(const Graph& graph, const char* op) {
  return static_cast<size_t>(
      std::count_if(graph.nodes.begin(), graph.nodes.end(),
                    [&](const Node& n) { return std::string(op_name(n.op)) == op; }));
}

}  // namespace

TEST_CASE("quantize: 8 bits keep the function, on images it has not seen") {
  const Graph real = small_net(1);
  const std::vector<float> data = samples(2), fresh = samples(3, 20);
  for (const double equalise : {0.0, 1.0})
    for (const OutputCorrection correction :
         {OutputCorrection::kNone, OutputCorrection::kMoments}) {
      Graph graph = real;
      PtqOptions options;
      options.equalise = equalise;
      options.correction = correction;
      const Result<PtqReport> report =
          quantize(&graph, uniform_bits(graph, 8, 8), {data, kCount}, options);
      REQUIRE_MESSAGE(report.ok(), (report.ok() ? "" : report.error().message));
      CHECK(decibels(outputs(real, fresh), outputs(graph, fresh)) > 25.0);
      CHECK(report->output_sqnr > 25.0);
    }
}

TEST_CASE("quantize: the report says what the graph then does") {
  Graph graph = small_net(4);
  const Graph real = graph;
  const std::vector<float> data = samples(5);
  const Result<PtqReport> report = quantize(&graph, uniform_bits(graph, 4, 4), {data, kCount}, {});
  REQUIRE(report.ok());
  CHECK(report->output_sqnr ==
        doctest::Approx(decibels(outputs(real, data), outputs(graph, data))).epsilon(0.02));
  REQUIRE(report->layers.size() == 9);
  CHECK(report->layers.front().bits.weight == 8);
  CHECK(report->layers.back().bits.activation == 8);
  CHECK(report->layers[1].bits.weight == 4);
  CHECK(report->layers[1].weight_bytes == 8 * 8 / 2);
  CHECK(report->layers[2].macs == 8 * 8 * 9 * 6 * 6);
  CHECK(report->layers[0].input_zero_point > 0);
  const std::string text = report_text(*report), json = report_json(*report);
  for (const LayerReport& layer : report->layers) {
    CHECK(text.find(layer.name) != std::string::npos);
    CHECK(json.find("\"" + layer.name + "\"") != std::string::npos);
  }
}

TEST_CASE("quantize: each refinement lowers the error of 2-bit weights") {
  const Graph real = small_net(6);
  const std::vector<float> data = samples(7), fresh = samples(8, 40);
  // What distinguishes images: each output less its mean over the float ones.
  std::vector<float> expected = outputs(real, fresh);
  std::vector<float> mean(10);
  for (size_t i = 0; i < expected.size(); ++i)
    mean[i % 10] += expected[i] * 10.0F / static_cast<float>(expected.size());
  for (size_t i = 0; i < expected.size(); ++i) expected[i] -= mean[i % 10];
  const auto quality = [&](const PtqOptions& options) {
    Graph graph = real;
    REQUIRE(quantize(&graph, uniform_bits(graph, 2, 8), {data, kCount}, options).ok());
    std::vector<float> y = outputs(graph, fresh);
    for (size_t i = 0; i < y.size(); ++i) y[i] -= mean[i % 10];
    return decibels(expected, y);
  };
  PtqOptions plain;
  plain.rounding = WeightRounding::kNearest;
  plain.correction = OutputCorrection::kNone;
  plain.equalise = 0.0;
  PtqOptions corrected = plain;
  corrected.correction = OutputCorrection::kLeastSquares;
  PtqOptions compensated = corrected;
  compensated.rounding = WeightRounding::kCompensated;
  PtqOptions trusting = compensated;
  trusting.held_out = 0.0;
  const double first = quality(plain), second = quality(corrected), third = quality(compensated);
  CHECK(quality(trusting) > second + 0.3);
  CHECK(second > first + 3.0);
  CHECK(third > second + 0.3);
}

TEST_CASE("quantize: tensors are rounded once for all their readers") {
  Graph graph = small_net(9);
  const std::vector<float> data = samples(10);
  REQUIRE(quantize(&graph, uniform_bits(graph, 4, 4), {data, kCount}, {}).ok());
  // input; pool output (two readers); 2 x 2 inside the bottlenecks; projection; the stream between
  // the blocks at 4 and at 8 bits; before the pool; before the classifier.
  CHECK(count_of(graph, "fake_quant") == 1 + 1 + 4 + 1 + 2 + 1 + 1);
  REQUIRE(check(graph).ok());
  LowerOptions options;
  options.image_input = false;
  const Result<LoweredModel> lowered = lower(graph, options);
  REQUIRE_MESSAGE(lowered.ok(), (lowered.ok() ? "" : lowered.error().message));
  const Checked valid = format::validate(lowered->model);
  CHECK_MESSAGE(valid.ok(), (valid.ok() ? "" : valid.error().message));
  CHECK(lowered->model.nodes.size() == 12);  // quantize, 8 conv, max pool, average pool, linear
}

TEST_CASE("quantize: a mixed map is followed layer by layer") {
  Graph graph = small_net(11);
  const std::vector<float> data = samples(12);
  BitsMap bits = uniform_bits(graph, 4, 4);
  std::vector<std::string> names;
  for (const auto& [name, b] : bits) names.push_back(name);
  bits[names[3]] = {2, 4};
  bits[names[4]] = {8, 2};
  const Result<PtqReport> report = quantize(&graph, bits, {data, kCount}, {});
  REQUIRE(report.ok());
  for (const LayerReport& layer : report->layers) {
    CHECK(layer.bits.weight == bits.at(layer.name).weight);
    CHECK(layer.bits.activation == bits.at(layer.name).activation);
  }
}

TEST_CASE("quantize: the same input gives the same bits") {
  const std::vector<float> data = samples(13);
  Graph a = small_net(14), b = a, c = a, d = a;
  REQUIRE(quantize(&a, uniform_bits(a, 4, 4), {data, kCount}, {}).ok());
  REQUIRE(quantize(&b, uniform_bits(b, 4, 4), {data, kCount}, {}).ok());
  PtqOptions odd;
  odd.batch = 7;  // does not divide the number of samples
  REQUIRE(quantize(&c, uniform_bits(c, 4, 4), {data, kCount}, odd).ok());
  cpu_set_t all, one;  // our loops use the processors that they may run on: here a single one
  REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  const bool alone = quantize(&d, uniform_bits(d, 4, 4), {data, kCount}, {}).ok();
  REQUIRE(sched_setaffinity(0, sizeof all, &all) == 0);
  REQUIRE(alone);
  for (size_t i = 0; i < a.nodes.size(); ++i) {
    if (!a.nodes[i].weight_quant) continue;
    CHECK(a.nodes[i].weight_quant->codes == d.nodes[i].weight_quant->codes);
    CHECK(a.nodes[i].weight_quant->spec.scale == d.nodes[i].weight_quant->spec.scale);
    CHECK(a.nodes[i].weight_quant->codes == b.nodes[i].weight_quant->codes);
    CHECK(a.nodes[i].weight_quant->spec.scale == b.nodes[i].weight_quant->spec.scale);
    CHECK(a.nodes[i].weight_quant->codes == c.nodes[i].weight_quant->codes);
  }
}

TEST_CASE("quantize: refusals name the culprit and leave the graph alone") {
  const Graph real = small_net(15);
  const std::vector<float> data = samples(16);
  const auto refusal = [&](Graph graph, const BitsMap& bits, const CalibrationData& calibration,
                           const PtqOptions& options = {}) {
    const std::string before = print(graph);
    const Result<PtqReport> report = quantize(&graph, bits, calibration, options);
    CHECK(print(graph) == before);
    return report.ok() ? std::string("accepted") : report.error().message;
  };
  CHECK(refusal(real, {{"conv99", {4, 4}}}, {data, kCount}).find("conv99") != std::string::npos);
  CHECK(refusal(real, {{real.nodes[0].name, {3, 4}}}, {data, kCount}).find("3 bits") !=
        std::string::npos);
  CHECK(refusal(real, {}, {data, kCount + 1}).find("49 samples") != std::string::npos);
  CHECK(refusal(real, {}, {{}, 0}).find("calibration") != std::string::npos);
  Graph folded = real;
  folded.nodes[1].op = FakeQuant{{8, false, {1.0F}, 0, 0, 255}};
  CHECK(refusal(folded, {}, {data, kCount}).find("already quantised") != std::string::npos);
  PtqOptions stop;
  stop.progress = [](uint32_t done, uint32_t total, const std::string&) {
    CHECK(total == 9);
    return done < 3;
  };
  CHECK(refusal(real, {}, {data, kCount}, stop).find("stopped") != std::string::npos);
}

}  // namespace mpq::convert
