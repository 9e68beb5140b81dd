// The float side of the importer: layers, windows, shape arithmetic, exporters' quirks.

#include <doctest/doctest.h>

#include <cmath>

#include "converter/eval.h"
#include "converter/onnx/import.h"
#include "converter/passes/pass.h"
#include "onnx_builder.h"

namespace mpq::convert {
namespace {

Graph imported(const OnnxBuilder& builder) {
  auto model = import_onnx(builder.model, "");
  REQUIRE_MESSAGE(model.ok(), model.error().message);
  return std::move(model->graph);
}

std::string refused(const OnnxBuilder& builder) {
  const auto model = import_onnx(builder.model, "");
  return model.ok() ? "" : model.error().message;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<float> evaluate(const Graph& graph, const std::vector<float>& input) {
  auto evaluator = Evaluator::create(graph, 1);
  REQUIRE_MESSAGE(evaluator.ok(), evaluator.error().message);
  auto output = evaluator->run(input);
  REQUIRE_MESSAGE(output.ok(), output.error().message);
  return *output;
}

std::vector<std::string> ops(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) names.emplace_back(op_name(node.op));
  return names;
}

using Ops = std::vector<std::string>;
using Floats = std::vector<float>;

// One input 1x1x4x4 holding 0..15, one node.
Floats ramp16() {
  Floats ramp(16);
  for (size_t i = 0; i < 16; ++i) ramp[i] = static_cast<float>(i);
  return ramp;
}

}  // namespace

TEST_CASE("import: convolution with asymmetric padding, bias and names") {
  OnnxBuilder b;
  b.input("x", {-1, 1, 2, 2})
      .floats("onnx::Conv_497", {1, 1, 2, 2}, {1, 10, 100, 1000})
      .floats("bias", {1}, {0.5F})
      .output("y");
  set_ints(b.node("Conv", {"x", "onnx::Conv_497", "bias"}, "y"), "pads",
           {1, 0, 0, 1});  // top 1, right 1
  const Graph graph = imported(b);
  CHECK(graph.nodes[0].name == "y_node");  // maps are keyed by node, never by initialiser
  // Rows (0 0 0), (1 2 0), (3 4 0) under the window.
  CHECK(evaluate(graph, {1, 2, 3, 4}) == Floats{2100.5F, 200.5F, 4321.5F, 402.5F});
}

TEST_CASE("import: automatic padding puts the odd pixel at the end or the start") {
  for (const bool upper : {true, false}) {
    OnnxBuilder b;
    b.input("x", {1, 1, 4, 4}).floats("w", {1, 1, 1, 2}, {1, 100}).output("y");
    onnx::NodeProto* conv = b.node("Conv", {"x", "w"}, "y");
    set_text(conv, "auto_pad", upper ? "SAME_UPPER" : "SAME_LOWER");
    const Floats y = evaluate(imported(b), ramp16());
    REQUIRE(y.size() == 16);
    CHECK(y[0] == (upper ? 100.0F : 0.0F));
    CHECK(y[3] == (upper ? 3.0F : 302.0F));
  }
}

TEST_CASE("import: pooling, ceil_mode and the forms of a global mean") {
  OnnxBuilder b;
  b.input("x", {1, 1, 4, 4}).output("y");
  SUBCASE("max pool with padding") {
    onnx::NodeProto* pool = b.node("MaxPool", {"x"}, "y");
    set_ints(pool, "kernel_shape", {3, 3});
    set_ints(pool, "strides", {2, 2});
    set_ints(pool, "pads", {1, 1, 1, 1});
    CHECK(evaluate(imported(b), ramp16()) == Floats{5, 7, 13, 15});
  }
  SUBCASE("max pool in ceil mode") {
    onnx::NodeProto* pool = b.node("MaxPool", {"x"}, "y");
    set_ints(pool, "kernel_shape", {3, 3});
    set_ints(pool, "strides", {2, 2});
    set_int(pool, "ceil_mode", 1);
    CHECK(evaluate(imported(b), ramp16()) == Floats{10, 11, 14, 15});
  }
  SUBCASE("average pool") {
    onnx::NodeProto* pool = b.node("AveragePool", {"x"}, "y");
    set_ints(pool, "kernel_shape", {2, 2});
    set_ints(pool, "strides", {2, 2});
    CHECK(evaluate(imported(b), ramp16()) == Floats{2.5F, 4.5F, 10.5F, 12.5F});
  }
  SUBCASE("global average pool") {
    b.node("GlobalAveragePool", {"x"}, "y");
    CHECK(evaluate(imported(b), ramp16()) == Floats{7.5F});
  }
  SUBCASE("mean over both axes, dropped") {
    onnx::NodeProto* mean = b.node("ReduceMean", {"x"}, "y");
    set_ints(mean, "axes", {-1, 2});
    set_int(mean, "keepdims", 0);
    const Graph graph = imported(b);
    CHECK(ops(graph) == Ops{"avg_pool", "flatten"});
    CHECK(evaluate(graph, ramp16()) == Floats{7.5F});
  }
  SUBCASE("a mean over channels is refused") {
    set_ints(b.node("ReduceMean", {"x"}, "y"), "axes", {1});
    CHECK(contains(refused(b), "only the mean over height and width"));
  }
}

TEST_CASE("import: Gemm and MatMul in their variants give one layer") {
  OnnxBuilder b;
  b.input("x", {-1, 2}).output("y");
  const Floats x = {1, 2};
  SUBCASE("Gemm, weights [N, K], alpha and beta") {
    b.floats("w", {3, 2}, {1, 2, 3, 4, 5, 6}).floats("c", {3}, {10, 20, 30});
    onnx::NodeProto* gemm = b.node("Gemm", {"x", "w", "c"}, "y");
    set_int(gemm, "transB", 1);
    set_float(gemm, "alpha", 2.0F);
    set_float(gemm, "beta", 0.5F);
    CHECK(evaluate(imported(b), x) == Floats{15, 32, 49});
  }
  SUBCASE("Gemm, weights [K, N], broadcast bias") {
    b.floats("w", {2, 3}, {1, 3, 5, 2, 4, 6}).floats("c", {1, 3}, {1, 1, 1});
    b.node("Gemm", {"x", "w", "c"}, "y");
    CHECK(evaluate(imported(b), x) == Floats{6, 12, 18});
  }
  SUBCASE("MatMul and Add") {
    b.floats("w", {2, 3}, {1, 3, 5, 2, 4, 6}).floats("c", {3}, {1, 2, 3});
    b.node("MatMul", {"x", "w"}, "m");
    b.node("Add", {"c", "m"}, "y");
    Graph graph = imported(b);
    REQUIRE(run_passes(&graph, {.verify = true}).ok());
    CHECK(ops(graph) == Ops{"linear"});
    CHECK(evaluate(graph, x) == Floats{6, 13, 20});
  }
  SUBCASE("transA is refused") {
    b.floats("w", {1, 3}, {1, 2, 3});
    set_int(b.node("Gemm", {"x", "w"}, "y"), "transA", 1);
    CHECK(contains(refused(b), "node 'y_node' (Gemm): transA is set"));
  }
}

TEST_CASE("import: the classifier head of old exports folds its shape arithmetic") {
  OnnxBuilder b(9);
  b.input("x", {-1, 2, 3, 3}).output("y");
  b.integers("zero", onnx::TensorProto::INT64, {}, {0})
      .integers("rest", onnx::TensorProto::INT64, {1}, {-1});
  b.node("GlobalAveragePool", {"x"}, "pool");
  b.node("Shape", {"pool"}, "shape");
  set_int(b.node("Gather", {"shape", "zero"}, "batch"), "axis", 0);
  set_ints(b.node("Unsqueeze", {"batch"}, "batch1"), "axes", {0});
  set_int(b.node("Concat", {"batch1", "rest"}, "target"), "axis", 0);
  b.node("Reshape", {"pool", "target"}, "flat");
  b.floats("w", {1, 2}, {1, 100}).floats("c", {1}, {0});
  set_int(b.node("Gemm", {"flat", "w", "c"}, "y"), "transB", 1);
  const Graph graph = imported(b);
  CHECK(ops(graph) == Ops{"avg_pool", "flatten", "linear"});
  Floats x(18, 1.0F);
  for (size_t i = 9; i < 18; ++i) x[i] = 2.0F;
  CHECK(evaluate(graph, x) == Floats{201});
}

TEST_CASE("import: other ways to flatten") {
  OnnxBuilder b(13);
  b.input("x", {-1, 3, 1, 1}).output("y");
  SUBCASE("Flatten") { b.node("Flatten", {"x"}, "y"); }
  SUBCASE("Reshape with 0 and -1") {
    b.integers("s", onnx::TensorProto::INT64, {2}, {0, -1}).node("Reshape", {"x", "s"}, "y");
  }
  SUBCASE("Reshape with a frozen batch") {
    b.integers("s", onnx::TensorProto::INT64, {2}, {1, 3}).node("Reshape", {"x", "s"}, "y");
  }
  SUBCASE("Squeeze") {
    b.integers("a", onnx::TensorProto::INT64, {2}, {2, 3}).node("Squeeze", {"x", "a"}, "y");
  }
  const Graph graph = imported(b);
  CHECK(ops(graph) == Ops{"flatten"});
  CHECK(graph.values[graph.outputs[0]].shape == Shape{1, 3});
}

TEST_CASE("import: shared initialisers behind Identity, Dropout, final Softmax, unused branches") {
  OnnxBuilder b;
  b.input("x", {-1, 2, 1, 1}).output("y").floats("gamma", {2}, {2, 4}).floats("one", {2}, {1, 1});
  b.node("Identity", {"gamma"}, "gamma2");  // equal tensors are de-duplicated by the exporter
  b.node("Identity", {"one"}, "var");
  b.node("Sin", {"x"}, "unused");  // nobody needs it, so it need not be known
  b.node("BatchNormalization", {"x", "gamma2", "one", "one", "var"}, "bn");
  onnx::NodeProto* dropout = b.node("Dropout", {"bn"}, "drop");
  dropout->add_output("mask");
  b.node("Flatten", {"drop"}, "flat");
  b.node("Softmax", {"flat"}, "y");
  auto model = import_onnx(b.model, "");
  REQUIRE_MESSAGE(model.ok(), model.error().message);
  CHECK(ops(model->graph) == Ops{"batch_norm", "flatten"});
  REQUIRE(model->notes.size() == 1);
  CHECK(contains(model->notes[0], "Softmax): dropped"));
  const Floats y = evaluate(model->graph, {3, 5});
  CHECK(y[0] == doctest::Approx(2 * (3 - 1) / std::sqrt(1 + 1e-5) + 1));
  CHECK(y[1] == doctest::Approx(4 * (5 - 1) / std::sqrt(1 + 1e-5) + 1));
}

TEST_CASE("import: Pad is absorbed by convolution, and by pooling where zeros cannot win") {
  OnnxBuilder b(13);
  b.input("x", {1, 1, 2, 2})
      .output("y")
      .integers("pads", onnx::TensorProto::INT64, {8}, {0, 0, 1, 0, 0, 0, 0, 1});
  SUBCASE("convolution") {
    b.floats("w", {1, 1, 2, 2}, {1, 10, 100, 1000});
    b.node("Pad", {"x", "pads"}, "p");
    b.node("Conv", {"p", "w"}, "y");
    CHECK(evaluate(imported(b), {1, 2, 3, 4}) == Floats{2100, 200, 4321, 402});
  }
  SUBCASE("pooling after ReLU") {
    b.node("Relu", {"x"}, "r");
    b.node("Pad", {"r", "pads"}, "p");
    set_ints(b.node("MaxPool", {"p"}, "y"), "kernel_shape", {2, 2});
    CHECK(evaluate(imported(b), {-1, 2, 3, -4}) == Floats{2, 2, 3, 2});
  }
  SUBCASE("pooling of negative values is refused") {
    b.node("Pad", {"x", "pads"}, "p");
    set_ints(b.node("MaxPool", {"p"}, "y"), "kernel_shape", {2, 2});
    CHECK(contains(refused(b), "may be negative"));
  }
}

TEST_CASE("import: clamps in every spelling") {
  OnnxBuilder b(13);
  b.input("x", {1, 1, 1, 4}).output("y").scalar("zero", 0).scalar("six", 6).scalar("huge", 3.4e38F);
  SUBCASE("Clip") {
    b.node("Clip", {"x", "zero", "six"}, "y");
    CHECK(evaluate(imported(b), {-1, 3, 7, 6}) == Floats{0, 3, 6, 6});
  }
  SUBCASE("Clip without upper bound is ReLU") {
    b.node("Clip", {"x", "zero"}, "y");
    CHECK(ops(imported(b)) == Ops{"relu"});
  }
  SUBCASE("Max then Min merge") {
    b.node("Max", {"zero", "x"}, "m");
    b.node("Min", {"m", "six"}, "y");
    Graph graph = imported(b);
    REQUIRE(run_passes(&graph, {.verify = true}).ok());
    CHECK(ops(graph) == Ops{"clip"});
    CHECK(evaluate(graph, {-1, 3, 7, 6}) == Floats{0, 3, 6, 6});
  }
}

TEST_CASE("import: every way to store numbers") {
  const std::vector<float> want = {1.5F, -2, 0.25F, 0};
  OnnxBuilder b;
  b.input("x", {1, 1, 1, 1}).output("y");
  const auto check = [&] {
    b.node("Conv", {"x", "w"}, "y");
    CHECK(evaluate(imported(b), {1}) == want);
  };
  const std::vector<int64_t> shape = {4, 1, 1, 1};
  const uint16_t halves[] = {0x3E00, 0xC000, 0x3400, 0};
  SUBCASE("raw float") {
    b.floats("w", shape, want);
    check();
  }
  SUBCASE("float_data") {
    onnx::TensorProto* t = b.tensor("w", onnx::TensorProto::FLOAT, shape);
    for (const float v : want) t->add_float_data(v);
    check();
  }
  SUBCASE("raw double") {
    const double d[] = {1.5, -2, 0.25, 0};
    b.tensor("w", onnx::TensorProto::DOUBLE, shape)->set_raw_data(d, sizeof d);
    check();
  }
  SUBCASE("double_data") {
    onnx::TensorProto* t = b.tensor("w", onnx::TensorProto::DOUBLE, shape);
    for (const float v : want) t->add_double_data(v);
    check();
  }
  SUBCASE("raw half") {
    b.tensor("w", onnx::TensorProto::FLOAT16, shape)->set_raw_data(halves, sizeof halves);
    check();
  }
  SUBCASE("half in int32_data") {
    onnx::TensorProto* t = b.tensor("w", onnx::TensorProto::FLOAT16, shape);
    for (const uint16_t v : halves) t->add_int32_data(v);
    check();
  }
}

TEST_CASE("import: an exporter that wrote a wrong bias is named") {
  OnnxBuilder b;
  b.input("x", {1, 2, 4, 4})
      .output("y")
      .floats("w", {3, 2, 1, 1}, Floats(6, 1.0F))
      .floats("b", {2}, {1, 1});
  b.node("Conv", {"x", "w", "b"}, "y");
  CHECK(contains(refused(b), "node 'y_node' (Conv): the bias has shape 2 for 3 outputs"));
}

TEST_CASE("import: weights that do not fit the input are named") {
  OnnxBuilder b;
  b.input("x", {1, 2, 4, 4}).output("y").floats("w", {3, 5, 1, 1}, Floats(15, 1.0F));
  b.node("Conv", {"x", "w"}, "y");
  CHECK(contains(refused(b), "weights 3x5x1x1 do not fit input 1x2x4x4"));
}

TEST_CASE("import: all unsupported nodes come in one message") {
  OnnxBuilder b;
  b.input("x", {1, 2, 4, 4}).output("y");
  b.node("Sigmoid", {"x"}, "s");
  b.node("Mul", {"x", "s"}, "m");  // behind the first problem: not repeated
  b.node("Transpose", {"x"}, "t");
  b.node("Frobnicate", {"t"}, "f", "my.domain");
  b.node("Add", {"m", "f"}, "sum");
  set_text(b.node("Pad", {"x"}, "p"), "mode", "reflect");
  b.node("Add", {"sum", "p"}, "y");
  const std::string message = refused(b);
  CHECK(contains(message, "3 parts of the model cannot be imported:"));
  CHECK(contains(message, "node 's_node' (Sigmoid): the operator is not supported; replace it"));
  CHECK(contains(
      message,
      "node 't_node' (Transpose): an activation is transposed; export the model in NCHW order"));
  CHECK(contains(message, "node 'p_node' (Pad): padding mode reflect"));
  CHECK_FALSE(contains(message, "m_node"));
  CHECK_FALSE(contains(message, "Frobnicate"));
}

TEST_CASE("import: functions and runtime fusions have remedies of their own") {
  OnnxBuilder b;
  b.input("x", {1, 2, 4, 4}).output("y");
  b.node("FusedConv", {"x"}, "f", "com.microsoft");
  b.node("MyBlock", {"x"}, "g", "pkg.test");
  onnx::FunctionProto* function = b.model.add_functions();
  function->set_name("MyBlock");
  function->set_domain("pkg.test");
  b.node("Add", {"f", "g"}, "y");
  const std::string message = refused(b);
  CHECK(contains(message, "(com.microsoft::FusedConv): the operator is a fusion of ONNX Runtime"));
  CHECK(contains(
      message,
      "(pkg.test::MyBlock): it calls a function of the model; export with functions inlined"));
}

TEST_CASE("import: the size of a dynamic input must be given") {
  OnnxBuilder b;
  b.input("x", {-1, 1, -1, -1}).output("y");
  b.node("Relu", {"x"}, "y");
  CHECK(contains(refused(b), "has no fixed size"));
  const auto model = import_onnx(b.model, "", {.input_shape = {1, 1, 2, 3}});
  REQUIRE(model.ok());
  CHECK(model->graph.values[model->graph.outputs[0]].shape == Shape{1, 1, 2, 3});
  CHECK_FALSE(import_onnx(b.model, "", {.input_shape = {1, 2, 2, 3}}).ok());
}

}  // namespace mpq::convert
