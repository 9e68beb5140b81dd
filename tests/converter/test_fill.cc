// Networks that came quantised in part, from ONNX to integers: what they left in float gets 8 bits.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "converter/eval.h"
#include "converter/lower.h"
#include "converter/onnx/import.h"
#include "converter/passes/calibrate.h"
#include "converter/passes/fill_quantizers.h"
#include "converter/passes/pass.h"
#include "converter/precision/search.h"
#include "format/reader.h"
#include "format/writer.h"
#include "graph_builder.h"
#include "integer_model.h"
#include "onnx_builder.h"

namespace mpq::convert {
namespace {

using Floats = std::vector<float>;
constexpr int kInt8 = 3, kUint8 = 2;
constexpr size_t kPixels = 3 * 8 * 8;
enum class Style : uint8_t { kLsq, kQonnx, kQdq };

// A little ResNet: stem -> maxpool -> block with an identity -> block with a downsample -> pool ->
// fc. Inputs of the inner layers and of fc have 4 bits; `whole` quantises everything that integers
// need.
class Source {
 public:
  Source(Style style, bool whole) : style_(style), whole_(whole), b_(13) {
    b_.input("image", {1, 3, 8, 8}).output("logits");
    b_.scalar("zero", 0).scalar("four", 4).scalar("eight", 8);
    b_.integers("zu", kUint8, {}, {0})
        .integers("zm", kUint8, {}, {128})
        .integers("zi", kInt8, {}, {0});
    const std::string stem = conv("stem", whole ? wide("image") : "image", 8, 3, 3, 1, whole);
    b_.node("Relu", {stem}, "r0");
    onnx::NodeProto* pool = b_.node("MaxPool", {"r0"}, "p0");
    set_ints(pool, "kernel_shape", {2, 2});
    set_ints(pool, "strides", {2, 2});
    const std::string one = block("one", "p0", 8, 8, 1), two = block("two", one, 8, 12, 2);
    b_.node("GlobalAveragePool", {whole ? wide(two) : two}, "pooled");
    b_.node("Flatten", {"pooled"}, "features");
    b_.floats("fc.w", {5, 12}, data_.random_data(60, 0.5F));
    const std::string w = whole ? weights("fc.w", 8) : "fc.w";
    set_int(b_.node("Gemm", {whole ? wide("features") : low("features"), w}, "logits"), "transB",
            1);
  }
  Graph graph() const {
    auto model = import_onnx(b_.model, "");
    REQUIRE_MESSAGE(model.ok(), (model.ok() ? "" : model.error().message));
    Graph graph = std::move(model->graph);
    REQUIRE(run_passes(&graph).ok());
    return graph;
  }

 private:
  // Div, Clip, Round, Mul.
  std::string lsq(const std::string& x, const std::string& q, float step, float lo, float hi) {
    b_.scalar(q + ".s", step).scalar(q + ".lo", lo).scalar(q + ".hi", hi);
    b_.node("Div", {x, q + ".s"}, q + ".1");
    b_.node("Clip", {q + ".1", q + ".lo", q + ".hi"}, q + ".2");
    b_.node("Round", {q + ".2"}, q + ".3");
    b_.node("Mul", {q + ".3", q + ".s"}, q);
    return q;
  }
  std::string qonnx(const std::string& x, const std::string& q, float step, bool is_signed,
                    int bits) {
    b_.scalar(q + ".s", step);
    set_int(b_.node("Quant", {x, q + ".s", "zero", bits == 8 ? "eight" : "four"}, q,
                    "qonnx.custom_op.general"),
            "signed", is_signed ? 1 : 0);
    return q;
  }
  std::string qdq(const std::string& x, const std::string& q, float step, const std::string& zero) {
    b_.scalar(q + ".s", step);
    b_.node("QuantizeLinear", {x, q + ".s", zero}, q + ".1");
    b_.node("DequantizeLinear", {q + ".1", q + ".s", zero}, q);
    return q;
  }
  std::string name(const std::string& x) { return x + ".q" + std::to_string(count_++); }
  std::string low(const std::string& x) {  // not negative, 4 bit where the style has them
    if (style_ == Style::kLsq) return lsq(x, name(x), 0.25F, 0, 15);
    return style_ == Style::kQonnx ? qonnx(x, name(x), 0.25F, false, 4)
                                   : qdq(x, name(x), 0.02F, "zu");
  }
  std::string wide(const std::string& x) { return qdq(x, name(x), 0.04F, "zm"); }
  std::string weights(const std::string& w, int bits) {
    if (style_ == Style::kLsq && bits == 4) return lsq(w, name(w), 0.07F, -8, 7);
    if (style_ == Style::kQonnx) return qonnx(w, name(w), bits == 8 ? 0.01F : 0.07F, true, bits);
    return qdq(w, name(w), 0.01F, "zi");
  }
  std::string conv(const std::string& n, const std::string& x, int64_t out, int64_t in,
                   int64_t kernel, int64_t stride, bool quantised) {
    const auto fan_in = static_cast<float>(in * kernel * kernel);
    b_.floats(n + ".w", {out, in, kernel, kernel},
              data_.random_data(static_cast<size_t>(out * in * kernel * kernel),
                                1.4F / std::sqrt(fan_in)));
    b_.floats(n + ".b", {out}, data_.random_data(static_cast<size_t>(out), 0.2F));
    onnx::NodeProto* node =
        b_.node("Conv", {x, quantised ? weights(n + ".w", 4) : n + ".w", n + ".b"}, n);
    set_ints(node, "strides", {stride, stride});
    set_ints(node, "pads", std::vector<int64_t>(4, kernel / 2));
    return n;
  }
  std::string block(const std::string& n, const std::string& x, int64_t in, int64_t out,
                    int64_t stride) {
    const std::string q = low(x);
    b_.node("Relu", {conv(n + ".a", q, out, in, 3, stride, true)}, n + ".r");
    std::string y = conv(n + ".b", low(n + ".r"), out, out, 3, 1, true), skip = x;
    if (in != out) skip = conv(n + ".down", q, out, in, 1, stride, true);
    if (whole_) skip = wide(skip), y = wide(y);
    b_.node("Add", {y, skip}, n + ".sum");
    b_.node("Relu", {n + ".sum"}, n + ".out");
    return n + ".out";
  }

  Style style_;
  bool whole_;
  OnnxBuilder b_;
  GraphBuilder data_{7};  // for its generator
  int count_ = 0;
};

LowerOptions float_input() {
  LowerOptions options;
  options.image_input = false;
  return options;
}

Floats evaluate(const Graph& graph, const Floats& input) {
  auto evaluator = Evaluator::create(graph, 1);
  REQUIRE(evaluator.ok());
  const auto y = evaluator->run(input);
  REQUIRE(y.ok());
  return *y;
}

std::vector<std::byte> bytes_of(const Graph& graph) {
  const auto lowered = lower(graph, float_input());
  REQUIRE_MESSAGE(lowered.ok(), (lowered.ok() ? "" : lowered.error().message));
  const auto bytes = format::write(lowered->model);
  REQUIRE_MESSAGE(bytes.ok(), (bytes.ok() ? "" : bytes.error().message));
  return *bytes;
}

// The integers of the graph's model file, and what `graph` says in float; in dB, over 8 images.
double agreement(const Graph& filled, const Graph& graph) {
  const std::vector<std::byte> bytes = bytes_of(filled);
  constexpr std::align_val_t kAlign{64};
  auto* file = static_cast<std::byte*>(::operator new(bytes.size(), kAlign));
  std::memcpy(file, bytes.data(), bytes.size());
  Floats expected, found;
  {
    const auto model = format::read({file, bytes.size()});
    REQUIRE_MESSAGE(model.ok(), (model.ok() ? "" : model.error().message));
    const std::string logits = model->tensors[model->outputs[0]].name;
    GraphBuilder images(99);
    for (int i = 0; i < 8; ++i) {
      const Floats image = images.random_data(kPixels);
      const Floats real = evaluate(graph, image);
      expected.insert(expected.end(), real.begin(), real.end());
      const auto values = run_model(*model, {image.begin(), image.end()});
      for (const double y : values.at(logits)) found.push_back(static_cast<float>(y));
    }
  }
  ::operator delete(file, kAlign);
  REQUIRE(expected.size() == found.size());
  return sqnr(expected, found);
}

struct Calibrated {
  Graph graph;
  std::vector<FilledTensor> filled;
};
Calibrated fill(Graph graph, StepRule rule = StepRule::kMse) {
  GraphBuilder images(5);
  constexpr uint32_t kImages = 19;  // two whole batches and a rest
  const Floats samples = images.random_data(kImages * kPixels);
  PtqOptions options;
  options.step = rule;
  const auto filled = fill_quantizers(&graph, {samples, kImages}, options);
  REQUIRE_MESSAGE(filled.ok(), (filled.ok() ? "" : filled.error().message));
  REQUIRE(check(graph).ok());
  return {std::move(graph), *filled};
}

}  // namespace

TEST_CASE("fill: networks quantised in part run in integers as they did in float") {
  for (const Style style : {Style::kLsq, Style::kQonnx, Style::kQdq}) {
    CAPTURE(static_cast<int>(style));
    const Graph source = Source(style, false).graph();
    const auto refused = lower(source, float_input());
    REQUIRE_FALSE(refused.ok());  // else the network is no test
    for (const StepRule rule : {StepRule::kMse, StepRule::kMinMax}) {
      const Calibrated result = fill(source, rule);
      // The 8-bit rounding of a few tensors parts the two, and that tips single 4-bit codes over:
      // 26 dB and more with 4-bit codes, 45 dB with 8-bit ones. A wrong step costs more (next
      // test).
      CHECK(agreement(result.graph, source) > (style == Style::kQdq ? 40.0 : 20.0));
      // Against its own float meaning only ties between codes remain.
      CHECK(agreement(result.graph, result.graph) > 60.0);
    }
  }
}

TEST_CASE("fill: a wrong step of a filled quantiser is noticed") {
  const Graph source = Source(Style::kLsq, false).graph();
  Calibrated result = fill(source);
  for (Node& node : result.graph.nodes) {
    auto* quant = std::get_if<FakeQuant>(&node.op);
    if (quant == nullptr || node.name.find("two.out") == std::string::npos) continue;
    quant->spec.scale[0] *= 0.3F;  // clips
  }
  CHECK(agreement(result.graph, source) < 20.0);
}

TEST_CASE("fill: the residual stream, the pool, the image and float weights; nothing else") {
  const Graph source = Source(Style::kLsq, false).graph();
  const Calibrated result = fill(source);
  std::vector<std::string> names;
  for (const FilledTensor& tensor : result.filled) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  // In block two the downsample's sum becomes codes; the branch's stays a sum.
  CHECK(names ==
        std::vector<std::string>{"image", "logits_node", "p0", "stem_node", "two.down", "two.out"});

  // What came along is still there, unchanged and in order.
  std::vector<const Node*> before, after;
  for (const Node& node : source.nodes) before.push_back(&node);
  for (const Node& node : result.graph.nodes)
    if (node.name.size() < 3 || node.name.substr(node.name.size() - 3) != ".q8")
      after.push_back(&node);
  REQUIRE(before.size() == after.size());
  CHECK(result.graph.nodes.size() == source.nodes.size() + 4);
  for (size_t i = 0; i < before.size(); ++i) {
    CHECK(before[i]->name == after[i]->name);
    CHECK(before[i]->output == after[i]->output);
    if (const auto* quant = std::get_if<FakeQuant>(&before[i]->op)) {
      const QuantSpec &a = quant->spec, &b = std::get<FakeQuant>(after[i]->op).spec;
      CHECK(before[i]->inputs == after[i]->inputs);
      CHECK(a.bits == b.bits);
      CHECK(a.scale == b.scale);
      CHECK(a.zero_point == b.zero_point);
    }
    if (!before[i]->weight_quant) continue;
    CHECK(before[i]->weight_quant->codes == after[i]->weight_quant->codes);
    CHECK(before[i]->weight_quant->spec.scale == after[i]->weight_quant->spec.scale);
  }
}

TEST_CASE("fill: the same bytes each time; a second time changes nothing") {
  const Graph source = Source(Style::kQonnx, false).graph();
  const Calibrated first = fill(source), second = fill(source);
  const std::vector<std::byte> bytes = bytes_of(first.graph);
  CHECK(bytes == bytes_of(second.graph));
  const Calibrated again = fill(first.graph);
  CHECK(again.filled.empty());
  CHECK(bytes == bytes_of(again.graph));
}

TEST_CASE("fill: a network that lacks nothing stays as it is") {
  const Graph source = Source(Style::kQdq, true).graph();
  CHECK(missing_quantizers(source).empty());
  Graph graph = source;
  const auto filled = fill_quantizers(&graph, {});  // and asks for no images
  REQUIRE(filled.ok());
  CHECK(filled->empty());
  CHECK(print(graph) == print(source));
  CHECK(bytes_of(graph) == bytes_of(source));
}

TEST_CASE("fill: what is missing is named; no samples is an error that changes nothing") {
  const Graph source = Source(Style::kQdq, false).graph();
  CHECK(has_quantizers(source));
  const std::vector<MissingQuantizer> missing = missing_quantizers(source);
  REQUIRE_FALSE(missing.empty());
  CHECK(describe(source, missing[0]).find("(conv): its input 0 'image' is not quantised") !=
        std::string::npos);
  Graph graph = source;
  const auto filled = fill_quantizers(&graph, {});
  REQUIRE_FALSE(filled.ok());
  CHECK(filled.error().message.find("0 samples") != std::string::npos);
  CHECK(print(graph) == print(source));
}

TEST_CASE("fill: a sum read by its Add, a Relu and a layer goes through one 8-bit tensor") {
  GraphBuilder b(3);
  const ValueId x = b.input({1, 4, 3, 3});
  const ValueId sum = b.node(Conv{}, {x, b.random({4, 4, 1, 1})});
  const ValueId inner = b.node(Conv{}, {b.node(Relu{}, {sum}), b.random({4, 4, 1, 1})});
  const ValueId twice = b.node(Add{}, {sum, sum});
  const ValueId total = b.node(Add{}, {b.node(Add{}, {inner, sum}), twice});
  const ValueId pooled = b.node(AvgPool{}, {total});
  const Graph source = b.finish(pooled);
  Graph graph = source;
  const Floats samples = b.random_data(size_t{16} * 36);
  PtqOptions options;
  options.step = StepRule::kMinMax;  // nothing of these samples is clipped
  const auto filled = fill_quantizers(&graph, {samples, 16}, options);
  REQUIRE(filled.ok());
  const auto of_sum = std::find_if(filled->begin(), filled->end(), [&](const FilledTensor& tensor) {
    return tensor.name == source.values[sum].name;
  });
  REQUIRE(of_sum != filled->end());
  CHECK(of_sum->readers.size() == 4);  // the Relu, one Add, both sides of the other
  const auto lowered = lower(graph, float_input());
  REQUIRE_MESSAGE(lowered.ok(), (lowered.ok() ? "" : lowered.error().message));
  const Floats image(samples.begin(), samples.begin() + 36), real = evaluate(source, image);
  const auto values = run_model(lowered->model, {image.begin(), image.end()});
  const std::vector<double>& found =
      values.at(lowered->model.tensors[lowered->model.outputs[0]].name);
  REQUIRE(found.size() == real.size());
  for (size_t i = 0; i < real.size(); ++i)  // means of 9 numbers that are rounded five times
    CHECK(std::abs(found[i] - double{real[i]}) < double{filled->back().scale});
}

TEST_CASE("fill: EAGL takes the codes that the network brought") {
  const Graph graph = fill(Source(Style::kLsq, false).graph()).graph;
  precision::SearchOptions options;
  options.budget = 0.8;
  const auto found = precision::search(graph, options);
  REQUIRE_MESSAGE(found.ok(), (found.ok() ? "" : found.error().message));
  CHECK(found->map.checkpoint == "trained");
  REQUIRE(found->layer_entropy.size() == found->selection.layers.size());
  size_t of_codes = 0;
  for (size_t i = 0; i < found->layer_entropy.size(); ++i) {
    const Node& node = graph.nodes[found->selection.layers[i].node];
    if (node.weight_quant->spec.bits != 4) continue;
    ++of_codes;
    CHECK(found->layer_entropy[i] == precision::code_entropy(node.weight_quant->codes));
  }
  CHECK(of_codes == 5);
}

}  // namespace mpq::convert
