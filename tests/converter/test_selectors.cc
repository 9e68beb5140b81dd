// Selectors against closed forms and second differences, files of gains, refusals.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>

#include "converter/precision/gradients.h"
#include "converter/precision/kendall.h"
#include "converter/precision/selector.h"
#include "converter/precision/spec.h"
#include "converter/train/resnet.h"
#include "graph_builder.h"
#include "striped_images.h"
#include "tests/support/temp_folder.h"

namespace mpq::convert::precision {
namespace {

using Vector = std::vector<double>;
using train::striped_images;

// x -> a x -> tanh -> b h: three classes of 8 x 8 pictures, in binary64.
struct TwoLayers {
  Vector a, b;  // [3][192], [3][3]

  static Vector product(const Vector& w, const Vector& x) {
    Vector y(w.size() / x.size());
    for (size_t i = 0; i < w.size(); ++i) y[i / x.size()] += w[i] * x[i % x.size()];
    return y;
  }
  Vector hidden(const Vector& x) const {
    Vector h = product(a, x);
    for (double& v : h) v = std::tanh(v);
    return h;
  }
  Vector probabilities(const Vector& x) const {
    Vector p = product(b, hidden(x));
    double sum = 0.0;
    for (double& v : p) sum += v = std::exp(v);
    for (double& v : p) v /= sum;
    return p;
  }
};

struct Sample {
  Vector x;  // as the network's flatten orders it
  size_t label = 0;
};

Graph two_layer_graph() {
  GraphBuilder b(3);
  ValueId v = b.input({1, 3, 8, 8});
  v = b.node(Flatten{}, {v});
  v = b.node(Linear{}, {v, b.random({3, 192}, 0.05F)});
  v = b.node(Tanh{}, {v});
  return b.finish(b.node(Linear{}, {v, b.random({3, 3})}));
}

TwoLayers two_layers(const Graph& graph) {
  TwoLayers net;
  for (const Value& value : graph.values) {
    if (!value.is_constant) continue;
    Vector& to = value.data.size() == 9 ? net.b : net.a;
    to.assign(value.data.begin(), value.data.end());
  }
  return net;
}

std::vector<Sample> samples_of(const train::ImageSet& set) {
  std::vector<Sample> samples;
  for (size_t i = 0; i < set.count(); ++i) {
    Sample& sample = samples.emplace_back();
    sample.label = static_cast<size_t>(set.labels[i]);
    for (size_t c = 0; c < 3; ++c)
      for (size_t p = 0; p < 64; ++p)
        sample.x.push_back((set.pixels[i * 192 + p * 3 + c] / 255.0 - 0.5) / 0.25);
  }
  return samples;
}

double dot(const Vector& x) {
  double sum = 0.0;
  for (const double v : x) sum += v * v;
  return sum;
}

Graph small_resnet() {
  return train::make_resnet({.blocks = 1, .width = 4, .side = 8, .classes = 3}, 5);
}

bool near(double value, double expected, double relative) {
  return std::abs(value - expected) <= relative * std::abs(expected);
}

std::string written(const tests::TempFolder& folder, const std::string& name,
                    const std::string& text) {
  const std::string path = (folder.path / name).string();
  std::ofstream(path) << text;
  return path;
}

}  // namespace

TEST_CASE("fit: the Fisher trace is the mean squared length of the gradient, an image at a time") {
  const Graph graph = two_layer_graph();
  const train::ImageSet images = striped_images(24, 1);
  const Selection selection = *Selection::of(graph);
  SearchOptions options;
  options.images = &images;
  options.samples = 24;
  const auto traces = fisher_traces({graph, selection, options});
  REQUIRE_MESSAGE(traces.ok(), traces.error().message);
  const TwoLayers net = two_layers(graph);
  double a = 0.0, b = 0.0, input_b = 0.0;
  for (const Sample& sample : samples_of(images)) {
    Vector d = net.probabilities(sample.x);
    d[sample.label] -= 1.0;
    const Vector h = net.hidden(sample.x);
    Vector back(3), inner(3);
    for (size_t j = 0; j < 3; ++j) {
      for (size_t k = 0; k < 3; ++k) back[j] += net.b[k * 3 + j] * d[k];
      inner[j] = back[j] * (1.0 - h[j] * h[j]);
    }
    b += dot(d) * dot(h) / 24;
    input_b += dot(back) / 24;
    a += dot(inner) * dot(sample.x) / 24;
  }
  CHECK(near(traces->weights[0], a, 1e-4));
  CHECK(near(traces->weights[1], b, 1e-4));
  CHECK(near(traces->inputs[1], input_b, 1e-4));
  CHECK(traces->inputs[0] == 0.0);                      // the network's input
  CHECK_FALSE(near(traces->weights[0], 24 * a, 1e-4));  // a sum for the mean would show
}

TEST_CASE("hawq: the trace of the Hessian, by random directions and by second differences") {
  const Graph graph = two_layer_graph();
  const train::ImageSet images = striped_images(64, 2);
  Selection selection = *Selection::of(graph);
  for (Group& group : selection.groups) group.fixed = false;  // the net has only its ends
  SearchOptions options;
  options.images = &images;
  options.samples = 64;
  options.probes = 200;
  const auto traces = hessian_traces({graph, selection, options});
  REQUIRE_MESSAGE(traces.ok(), traces.error().message);
  const std::vector<Sample> samples = samples_of(images);
  const auto loss = [&](const TwoLayers& net) {
    double sum = 0.0;
    for (const Sample& s : samples) sum -= std::log(net.probabilities(s.x)[s.label]) / 64;
    return sum;
  };
  for (const size_t layer : {0U, 1U}) {
    TwoLayers net = two_layers(graph);
    Vector& w = layer == 0 ? net.a : net.b;
    double trace = 0.0;
    for (double& v : w) {
      constexpr double kStep = 1e-3;
      const double start = v, middle = loss(net);
      v = start + kStep;
      const double up = loss(net);
      v = start - kStep;
      trace += (up - 2.0 * middle + loss(net)) / (kStep * kStep);
      v = start;
    }
    const TraceEstimate& found = (*traces)[layer];
    CAPTURE(layer);
    CAPTURE(found.mean);
    CAPTURE(trace);
    CHECK(std::abs(found.mean - trace) < 4.0 * found.standard_error + 0.01 * std::abs(trace));
    CHECK(found.standard_error < 0.2 * std::abs(trace));
    CHECK_FALSE(std::abs(found.mean - 2.0 * trace) < 4.0 * found.standard_error);
  }
}

TEST_CASE("sqnr: noise over signal of weights, and nothing where codes are that narrow already") {
  const Graph graph = small_resnet();
  SearchOptions options;
  options.method = "sqnr";
  options.budget = 0.8;
  const auto found = search(graph, options);
  REQUIRE_MESSAGE(found.ok(), found.error().message);
  for (const Layer& layer : found->selection.layers) {
    const Group& group = found->selection.groups[layer.group];
    if (group.fixed || group.layers.size() > 1) continue;
    const std::vector<float> w = real_weights(graph, graph.nodes[layer.node]);
    double expected = 0.0;
    const size_t part = w.size() / layer.channels;
    const std::vector<int8_t> low = weight_codes(w, layer.channels, 2, StepRule::kMse),
                              high = weight_codes(w, layer.channels, 4, StepRule::kMse);
    for (size_t c = 0; c < layer.channels; ++c)
      for (const auto* codes : {&low, &high}) {  // the step that fits the codes best: no more noise
        double cross = 0.0, square = 0.0, signal = 0.0;
        for (size_t i = c * part; i < (c + 1) * part; ++i) {
          cross += double{w[i]} * (*codes)[i];
          square += double((*codes)[i]) * (*codes)[i];
          signal += double{w[i]} * w[i];
        }
        const double noise = signal - (square > 0.0 ? cross * cross / square : 0.0);
        expected += codes == &low ? noise : -noise;
      }
    double signal = 0.0;
    for (const float v : w) signal += double{v} * v;
    CHECK(near(found->map.groups[layer.group].gain, expected / signal, 0.1));
  }
  Graph narrow = graph;
  const Selection selection = *Selection::of(narrow);
  const uint32_t chosen = selection.groups[1].layers[0];
  Node& node = narrow.nodes[selection.layers[chosen].node];
  const size_t count = narrow.values[node.inputs[1]].data.size();
  node.weight_quant = WeightQuant{{2, true, {0.1F}, 0, -2, 1}, std::vector<int8_t>(count, 1)};
  const auto exact = search(narrow, options);
  REQUIRE_MESSAGE(exact.ok(), exact.error().message);
  CHECK(exact->map.groups[1].gain == 0.0);
}

TEST_CASE("lsq-step: larger weights learn larger steps, low precision larger ones than high") {
  Graph graph = small_resnet();
  const train::ImageSet images = striped_images(64, 3);
  SearchOptions options;
  options.method = "lsq-step";
  options.images = &images;
  options.steps = 4;
  options.budget = 0.8;
  const auto before = search(graph, options);
  REQUIRE_MESSAGE(before.ok(), before.error().message);
  for (const format::MapGroup& group : before->map.groups) CHECK((group.fixed || group.gain > 0.0));
  const Layer& layer = before->selection.layers[before->selection.groups[1].layers[0]];
  for (float& w : graph.values[graph.nodes[layer.node].inputs[1]].data) w *= 10.0F;
  const auto after = search(graph, options);
  REQUIRE(after.ok());
  CHECK(after->map.groups[1].gain > before->map.groups[1].gain);
}

TEST_CASE(
    "selectors that look at images: a map for each, the same twice, standard errors of hawq") {
  const Graph graph = small_resnet();
  train::ImageSet images = striped_images(64, 4);
  for (const char* method : {"hawq", "fit", "sqnr", "lsq-step"}) {
    CAPTURE(method);
    SearchOptions options;
    options.method = method;
    options.images = &images;
    options.samples = 32;
    options.probes = 4;
    options.steps = 2;
    options.budget = 0.8;
    options.bits = {8, 4, 2};
    const auto found = search(graph, options), again = search(graph, options);
    REQUIRE_MESSAGE(found.ok(), found.error().message);
    REQUIRE(again.ok());
    CHECK(found->map.solver == "pareto-dp");
    CHECK(found->cost <= 0.8 * found->cost_high * (1 + 1e-9));
    double errors = 0.0;
    for (size_t g = 0; g < found->map.groups.size(); ++g) {
      CHECK(found->map.groups[g].gain == again->map.groups[g].gain);
      errors += found->map.groups[g].gain_stderr;
    }
    CHECK((errors > 0.0) == (std::string(method) == "hawq"));
    options.images = nullptr;
    const auto refused = search(graph, options);
    CHECK(refused.ok() == (std::string(method) == "sqnr"));  // of weights alone
    if (!refused.ok()) CHECK(refused.error().message.find("give some") != std::string::npos);
  }
  images.labels.clear();  // the network's own best classes then
  SearchOptions options;
  options.method = "fit";
  options.images = &images;
  options.samples = 8;
  CHECK(search(graph, options).ok());
}

TEST_CASE("gains: JSON and CSV, groups add up, and what is wrong is named") {
  const tests::TempFolder folder;
  const Graph graph = small_resnet();
  const Selection selection = *Selection::of(graph);
  std::string csv = "layer,gain,standard_error\r\n";
  std::string rows, first;
  double expected = 0.0;
  for (const Layer& layer : selection.layers) {
    if (selection.groups[layer.group].fixed) continue;
    if (first.empty()) first = layer.name;
    if (layer.group == selection.layers.back().group - 1) expected += 0.5 + layer.group;
    csv += layer.name + ", " + std::to_string(0.5 + layer.group) + ",0.25\n";
    rows += (rows.empty() ? "" : ",") + std::string("{\"layers\":[\"") + layer.name +
            "\"],\"gain\":" + std::to_string(0.5 + layer.group) + "}";
  }
  const auto json = [](const std::string& groups) {
    return R"({"schema_version":1,"method":"mine","groups":[)" + groups + "]}";
  };
  const auto result = [&](const std::string& text) {
    return make_map(graph, "gains:budget=0.8,file=" + written(folder, "gains", text));
  };
  const auto message = [&](const std::string& text) {
    const auto found = result(text);
    return found.ok() ? std::string("accepted") : found.error().message;
  };
  const auto from_csv = result(csv), from_json = result(json(rows));
  REQUIRE_MESSAGE(from_csv.ok(), from_csv.error().message);
  REQUIRE_MESSAGE(from_json.ok(), from_json.error().message);
  CHECK(from_csv->map.method == "gains");
  CHECK(from_json->map.method == "mine");
  const size_t last = selection.groups.size() - 2;
  CHECK(from_csv->map.groups[last].gain == doctest::Approx(expected));
  CHECK(from_json->map.groups[last].gain == doctest::Approx(expected));
  CHECK(from_csv->map.groups[1].gain_stderr >= 0.25);
  CHECK(message("").find("is empty") != std::string::npos);
  CHECK(message("layer,gain\nconv1").find("line 2") != std::string::npos);
  CHECK(message(csv + first + ",1\n").find("appears twice") != std::string::npos);
  CHECK(message(csv + first + "x,1\n").find("did you mean '" + first) != std::string::npos);
  CHECK(message(first + ",1\n").find("has no gain for") != std::string::npos);
  CHECK(message(json(R"({"layers":["a"],"gain":"b"})")).find("gain") != std::string::npos);
  CHECK(message("{}").find("schema_version 1") != std::string::npos);
  const std::string path = written(folder, "gains", csv);
  CHECK(make_map(graph, "gains:bits=8/4/2,file=" + path).error().message.find("3 precisions") !=
        std::string::npos);
  CHECK(make_map(graph, "alps:budget=0.8").error().message.find("mpqconvert alps") !=
        std::string::npos);
}

TEST_CASE("selectors: an unknown one is answered with the nearest and all names") {
  const auto found = make_map(small_resnet(), "hawk:budget=0.8");
  REQUIRE(!found.ok());
  CHECK(found.error().message.find("did you mean 'hawq'?") != std::string::npos);
  for (const Selector& selector : selectors())
    CHECK(found.error().message.find(selector.name) != std::string::npos);
}

TEST_CASE("kendall: order, opposite order, ties") {
  const Vector a = {1, 2, 3, 4}, b = {10, 20, 30, 40}, c = {4, 3, 2, 1}, d = {1, 1, 1, 1},
               e = {1, 2, 4, 3};
  CHECK(kendall_tau(a, b) == 1.0);
  CHECK(kendall_tau(a, c) == -1.0);
  CHECK(kendall_tau(a, d) == 0.0);
  CHECK(kendall_tau(a, e) == doctest::Approx(4.0 / 6.0));
}

}  // namespace mpq::convert::precision
