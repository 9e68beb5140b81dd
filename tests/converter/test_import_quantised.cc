// The quantised forms that an importer meets. Each builds the same little layer,
//   y = conv1x1(q(x), w), x on unsigned codes of 4 bit with step 0.5, w = codes {-2, 1} * 0.25,
// and must give the same graph: one FakeQuant, one Conv with its integer weights.

#include <doctest/doctest.h>

#include "converter/eval.h"
#include "converter/onnx/import.h"
#include "converter/passes/pass.h"
#include "onnx_builder.h"

namespace mpq::convert {
namespace {

using Floats = std::vector<float>;
constexpr int kInt8 = 3, kUint8 = 2, kInt32 = 6, kUint4 = 21, kInt4 = 22, kUint2 = 25, kInt2 = 26;

std::string refused(const OnnxBuilder& builder) {
  const auto model = import_onnx(builder.model, "");
  return model.ok() ? "" : model.error().message;
}
bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Graph imported(const OnnxBuilder& builder) {
  auto model = import_onnx(builder.model, "");
  REQUIRE_MESSAGE(model.ok(), model.error().message);
  return std::move(model->graph);
}

OnnxBuilder layer() {
  OnnxBuilder b(21);
  b.input("x", {-1, 1, 1, 4}).output("y").scalar("sx", 0.5F).scalar("sw", 0.25F);
  b.floats("w_float", {2, 1, 1, 1}, {-0.5F, 0.25F});
  return b;
}

// x / 0.5 = -2, 2.5 (tie), 3.1, 40.
const Floats kInput = {-1, 1.25F, 1.55F, 20};

void check_layer(const OnnxBuilder& builder, int weight_bits, int activation_bits = 4,
                 int32_t activation_hi = 15) {
  const Graph graph = imported(builder);
  REQUIRE_MESSAGE(graph.nodes.size() == 2, print(graph));
  const auto* quant = std::get_if<FakeQuant>(&graph.nodes[0].op);
  REQUIRE(quant != nullptr);
  CHECK(quant->spec.bits == activation_bits);
  CHECK_FALSE(quant->spec.is_signed);
  CHECK(quant->spec.zero_point == 0);
  CHECK(quant->spec.lo == 0);
  CHECK(quant->spec.hi == activation_hi);
  REQUIRE(graph.nodes[1].weight_quant.has_value());
  const WeightQuant& weights = *graph.nodes[1].weight_quant;
  CHECK(weights.spec.bits == weight_bits);
  CHECK(weights.codes == std::vector<int8_t>{-2, 1});
  CHECK(weights.spec.scale == Floats{0.25F});
  CHECK(graph.values[graph.nodes[1].inputs[1]].data == Floats{-0.5F, 0.25F});
  auto evaluator = Evaluator::create(graph, 1);
  REQUIRE(evaluator.ok());
  const float top =
      static_cast<float>(activation_hi) < 40.0F ? static_cast<float>(activation_hi) : 40.0F;
  CHECK(*evaluator->run(kInput) ==
        Floats{0, -0.5F, -0.75F, -0.25F * top, 0, 0.25F, 0.375F, 0.125F * top});
}

// QuantizeLinear -> DequantizeLinear on x with a zero point of the given type.
void quantise_x(OnnxBuilder* b, int type, const std::string& domain = "") {
  b->integers("zx", type, {}, {0});
  b->node("QuantizeLinear", {"x", "sx", "zx"}, "xq", domain);
  b->node("DequantizeLinear", {"xq", "sx", "zx"}, "xd", domain);
}

}  // namespace

TEST_CASE("import A: sub-byte types of opset 21 and 25") {
  OnnxBuilder b = layer();
  quantise_x(&b, kUint4);
  SUBCASE("INT4 weights in typed fields") {
    b.integers("w", kInt4, {2, 1, 1, 1}, {0x1E});
  }  // -2 low, 1 high
  SUBCASE("INT4 weights raw") {
    b.tensor("w", kInt4, {2, 1, 1, 1})->set_raw_data(std::string("\x1E", 1));
  }
  b.node("DequantizeLinear", {"w", "sw"}, "wd");
  b.node("Conv", {"xd", "wd"}, "y");
  check_layer(b, 4);
}

TEST_CASE("import A: INT2 weights and UINT2 activations") {
  OnnxBuilder b = layer();
  quantise_x(&b, kUint2);
  b.tensor("w", kInt2, {2, 1, 1, 1})
      ->set_raw_data(std::string("\x06", 1));  // -2 = 10b at bits 0-1, 1 = 01b above
  b.node("DequantizeLinear", {"w", "sw"}, "wd");
  b.node("Conv", {"xd", "wd"}, "y");
  check_layer(b, 2, 2, 3);
}

TEST_CASE("import H: com.microsoft nodes mean the same") {
  OnnxBuilder b = layer();
  b.integers("zx", kUint8, {}, {0})
      .integers("w", kInt8, {2, 1, 1, 1}, {-2, 1})
      .integers("zw", kInt8, {}, {0});
  b.node("QuantizeLinear", {"x", "sx", "zx"}, "xq", "com.microsoft");
  b.node("DequantizeLinear", {"xq", "sx", "zx"}, "xd", "com.microsoft");
  b.node("DequantizeLinear", {"w", "sw", "zw"}, "wd", "com.microsoft");
  b.node("Conv", {"xd", "wd"}, "y");
  check_layer(b, 8, 8, 255);
}

TEST_CASE("import A: output_dtype instead of a zero point") {
  OnnxBuilder b = layer();
  set_int(b.node("QuantizeLinear", {"x", "sx"}, "xq"), "output_dtype", kUint4);
  b.node("DequantizeLinear", {"xq", "sx"}, "xd");
  b.integers("w", kInt8, {2, 1, 1, 1}, {-2, 1});
  b.node("DequantizeLinear", {"w", "sw"}, "wd");
  b.node("Conv", {"xd", "wd"}, "y");
  check_layer(b, 8);
}

TEST_CASE("import B: float weights through QuantizeLinear are folded") {
  OnnxBuilder b = layer();
  quantise_x(&b, kUint4);
  b.integers("zw", kInt4, {}, {0});
  b.node("QuantizeLinear", {"w_float", "sw", "zw"}, "wq");
  b.node("DequantizeLinear", {"wq", "sw", "zw"}, "wd");
  b.node("Conv", {"xd", "wd"}, "y");
  check_layer(b, 4);
}

TEST_CASE("import C: QCDQ, 8-bit containers narrowed by Clip") {
  OnnxBuilder b = layer();
  b.integers("zx", kUint8, {}, {0})
      .integers("lo_x", kUint8, {}, {0})
      .integers("hi_x", kUint8, {}, {15});
  b.node("QuantizeLinear", {"x", "sx", "zx"}, "xq");
  b.node("Clip", {"xq", "lo_x", "hi_x"}, "xc");
  b.node("DequantizeLinear", {"xc", "sx", "zx"}, "xd");
  b.integers("w", kInt8, {2, 1, 1, 1}, {-2, 1}).integers("zw", kInt8, {}, {0});
  int bits = 4;
  SUBCASE("weights: initialiser, Clip, Dequantize") {
    b.integers("lo", kInt8, {}, {-8}).integers("hi", kInt8, {}, {7});
  }
  SUBCASE("2 bit") {
    b.integers("lo", kInt8, {}, {-2}).integers("hi", kInt8, {}, {1});
    bits = 2;
  }
  b.node("Clip", {"w", "lo", "hi"}, "wc");
  b.node("DequantizeLinear", {"wc", "sw", "zw"}, "wd");
  b.node("Conv", {"xd", "wd"}, "y");
  check_layer(b, bits);
}

TEST_CASE("import C: a narrow range stays narrow") {
  OnnxBuilder b = layer();
  quantise_x(&b, kUint4);
  b.integers("w", kInt8, {2, 1, 1, 1}, {-2, 1})
      .integers("lo", kInt8, {}, {-7})
      .integers("hi", kInt8, {}, {7});
  b.node("Clip", {"w", "lo", "hi"}, "wc");
  b.node("DequantizeLinear", {"wc", "sw"}, "wd");
  b.node("Conv", {"xd", "wd"}, "y");
  check_layer(b, 4);
  const Graph graph = imported(b);
  CHECK(graph.nodes[1].weight_quant->spec.lo == -7);
  CHECK(graph.nodes[1].weight_quant->spec.hi == 7);
}

TEST_CASE("import D: QONNX Quant in all three domains and both names") {
  for (const char* const domain :
       {"qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"})
    for (const char* const name : {"Quant", "IntQuant"}) {
      OnnxBuilder b = layer();
      b.scalar("zero", 0).scalar("four", 4);
      onnx::NodeProto* qx = b.node(name, {"x", "sx", "zero", "four"}, "xd", domain);
      set_int(qx, "signed", 0);
      set_int(qx, "narrow", 0);
      set_text(qx, "rounding_mode", "ROUND");
      onnx::NodeProto* qw = b.node(name, {"w_float", "sw", "zero", "four"}, "wd", domain);
      set_int(qw, "signed", 1);
      set_int(qw, "narrow", 1);
      b.node("Conv", {"xd", "wd"}, "y");
      check_layer(b, 4);
      CHECK(imported(b).nodes[1].weight_quant->spec.lo == -7);
    }
}

TEST_CASE("import E: LSQ as Div, Clip, Round, Mul") {
  OnnxBuilder b = layer();
  b.scalar("zero", 0).scalar("fifteen", 15).scalar("lo", -2).scalar("hi", 1);
  SUBCASE("Clip") {
    b.node("Div", {"x", "sx"}, "x1");
    b.node("Clip", {"x1", "zero", "fifteen"}, "x2");
    b.node("Round", {"x2"}, "x3");
    b.node("Mul", {"x3", "sx"}, "xd");
  }
  SUBCASE("Relu and Min, factor first") {
    b.node("Div", {"x", "sx"}, "x1");
    b.node("Relu", {"x1"}, "x1r");
    b.node("Min", {"x1r", "fifteen"}, "x2");
    b.node("Round", {"x2"}, "x3");
    b.node("Mul", {"sx", "x3"}, "xd");
  }
  SUBCASE("Max and Min, rounding before the upper bound") {
    b.node("Div", {"x", "sx"}, "x1");
    b.node("Max", {"zero", "x1"}, "x1r");
    b.node("Round", {"x1r"}, "x2");
    b.node("Min", {"x2", "fifteen"}, "x3");
    b.node("Mul", {"x3", "sx"}, "xd");
  }
  b.node("Div", {"w_float", "sw"}, "w1");
  b.node("Clip", {"w1", "lo", "hi"}, "w2");
  b.node("Round", {"w2"}, "w3");
  b.node("Mul", {"w3", "sw"}, "wd");
  b.node("Conv", {"xd", "wd"}, "y");
  check_layer(b, 2);
}

TEST_CASE("import F: straight-through residues are rewritten, also around the step size") {
  OnnxBuilder b = layer();
  b.scalar("zero", 0).scalar("fifteen", 15).scalar("lo", -2).scalar("hi", 1).scalar("g", 0.0013F);
  const auto quantiser = [&](const std::string& x, const std::string& s, const std::string& lo,
                             const std::string& hi) {
    const auto name = [&](const char* part) { return x + "_" + part; };
    b.node("Mul", {s, "g"}, name("sg"));  // s_scale = (s - s * g) + s * g
    b.node("Sub", {s, name("sg")}, name("s_minus"));
    b.node("Identity", {name("s_minus")}, name("s_detached"));
    b.node("Add", {name("s_detached"), name("sg")}, name("s"));
    b.node("Div", {x, name("s")}, name("div"));
    b.node("Clip", {name("div"), lo, hi}, name("clip"));
    b.node("Round", {name("clip")}, name("round"));  // (round(v) - v) + v
    b.node("Sub", {name("round"), name("clip")}, name("minus"));
    b.node("Add", {name("minus"), name("clip")}, name("pass"));
    b.node("Mul", {name("pass"), name("s")}, name("q"));
  };
  quantiser("x", "sx", "zero", "fifteen");
  quantiser("w_float", "sw", "lo", "hi");
  b.node("Conv", {"x_q", "w_float_q"}, "y");
  check_layer(b, 2);
}

TEST_CASE("import: per-channel weight scales along the output channels") {
  OnnxBuilder b = layer();
  quantise_x(&b, kUint4);
  b.integers("w", kInt8, {2, 1, 1, 1}, {-2, 1});
  SUBCASE("axis 0") {
    b.floats("s", {2}, {0.25F, 2.0F});
    set_int(b.node("DequantizeLinear", {"w", "s"}, "wd"), "axis", 0);
    b.node("Conv", {"xd", "wd"}, "y");
    const Graph graph = imported(b);
    CHECK(graph.nodes[1].weight_quant->spec.scale == Floats{0.25F, 2.0F});
    CHECK(graph.values[graph.nodes[1].inputs[1]].data == Floats{-0.5F, 2.0F});
  }
  SUBCASE("QONNX shape") {
    b.floats("s", {2, 1, 1, 1}, {0.25F, 0.125F}).scalar("zero", 0).scalar("four", 4);
    b.node("Quant", {"w_float", "s", "zero", "four"}, "wd", "qonnx.custom_op.general");
    b.node("Conv", {"xd", "wd"}, "y");
    CHECK(imported(b).nodes[1].weight_quant->codes == std::vector<int8_t>{-2, 2});
  }
  SUBCASE("blocks are refused") {
    b.floats("s", {2, 1, 1, 1}, {0.25F, 2.0F});
    set_int(b.node("DequantizeLinear", {"w", "s"}, "wd"), "block_size", 1);
    b.node("Conv", {"xd", "wd"}, "y");
    CHECK(contains(refused(b), "block_size is set; quantise per tensor or per output channel"));
  }
}

TEST_CASE("import: weights of a matrix product move with their scales") {
  OnnxBuilder b(13);
  b.input("x", {-1, 2})
      .output("y")
      .floats("s", {3}, {1, 2, 4})
      .integers("w", kInt8, {2, 3}, {1, 2, 3, 4, 5, 6});
  set_int(b.node("DequantizeLinear", {"w", "s"}, "wd"), "axis", 1);
  SUBCASE("MatMul") { b.node("MatMul", {"x", "wd"}, "y"); }
  SUBCASE("Transpose and Gemm") {
    set_ints(b.node("Transpose", {"wd"}, "wt"), "perm", {1, 0});
    set_int(b.node("Gemm", {"x", "wt"}, "y"), "transB", 1);
  }
  const Graph graph = imported(b);
  REQUIRE(graph.nodes.size() == 1);
  CHECK(graph.nodes[0].weight_quant->codes == std::vector<int8_t>{1, 4, 2, 5, 3, 6});
  CHECK(graph.nodes[0].weight_quant->spec.scale == Floats{1, 2, 4});
  CHECK(graph.values[graph.nodes[0].inputs[1]].data == Floats{1, 4, 4, 10, 12, 24});
}

TEST_CASE("import: signed activations are shifted to unsigned codes") {
  OnnxBuilder b(21);
  b.input("x", {1, 1, 1, 4}).output("y").scalar("s", 0.5F).integers("z", kInt8, {}, {-3});
  b.node("QuantizeLinear", {"x", "s", "z"}, "q");
  b.node("DequantizeLinear", {"q", "s", "z"}, "d");
  b.node("Relu", {"d"}, "y");
  const Graph graph = imported(b);
  const QuantSpec& spec = std::get<FakeQuant>(graph.nodes[0].op).spec;
  CHECK(spec.zero_point == 125);
  CHECK(spec.hi == 255);
  CHECK_FALSE(spec.is_signed);
}

TEST_CASE("import: unsigned weights with a middle zero point become signed") {
  OnnxBuilder b = layer();
  quantise_x(&b, kUint4);
  b.integers("w", kUint8, {2, 1, 1, 1}, {126, 129}).integers("zw", kUint8, {}, {128});
  b.node("DequantizeLinear", {"w", "sw", "zw"}, "wd");
  b.node("Conv", {"xd", "wd"}, "y");
  check_layer(b, 8);
}

TEST_CASE("import: biases of 32 bit are real numbers") {
  OnnxBuilder b = layer();
  quantise_x(&b, kUint4);
  b.integers("w", kInt4, {2, 1, 1, 1}, {0x1E})
      .integers("bq", kInt32, {2}, {8, -16})
      .scalar("sb", 0.125F);
  b.node("DequantizeLinear", {"w", "sw"}, "wd");
  b.node("DequantizeLinear", {"bq", "sb"}, "bd");
  b.node("Conv", {"xd", "wd", "bd"}, "y");
  const Graph graph = imported(b);
  CHECK(graph.values[graph.nodes[1].inputs[2]].data == Floats{1, -2});
}

TEST_CASE("import: one tensor quantised twice alike is quantised once") {
  OnnxBuilder b = layer();
  quantise_x(&b, kUint4);
  b.node("QuantizeLinear", {"x", "sx", "zx"}, "xq2");
  b.node("DequantizeLinear", {"xq2", "sx", "zx"}, "xd2");
  b.node("Add", {"xd", "xd2"}, "y");
  const Graph graph = imported(b);
  CHECK(graph.nodes.size() == 2);
}

TEST_CASE("import: quantisers that cannot be expressed are refused with a remedy") {
  OnnxBuilder b = layer();
  b.scalar("zero", 0).scalar("fifteen", 15).scalar("half", 0.5F).scalar("four", 4);
  SUBCASE("other rounding modes") {
    set_text(b.node("Quant", {"x", "sx", "zero", "four"}, "y", "qonnx.custom_op.general"),
             "rounding_mode", "FLOOR");
    CHECK(contains(refused(b), "rounding mode FLOOR is not supported"));
  }
  SUBCASE("fractional zero points") {
    b.node("Quant", {"x", "sx", "half", "four"}, "y", "qonnx.custom_op.general");
    CHECK(contains(refused(b), "a zero point is no integer code"));
  }
  SUBCASE("binary") {
    b.node("BipolarQuant", {"x", "sx"}, "y", "qonnx.custom_op.general");
    CHECK(contains(refused(b), "has no integer codes"));
  }
  SUBCASE("different scales") {
    b.integers("zx", kUint8, {}, {0});
    b.node("QuantizeLinear", {"x", "sx", "zx"}, "q");
    b.node("DequantizeLinear", {"q", "sw", "zx"}, "y");
    CHECK(contains(refused(b), "different scales or zero points"));
  }
  SUBCASE("LSQ with two steps") {
    b.node("Div", {"x", "sx"}, "d");
    b.node("Clip", {"d", "zero", "fifteen"}, "c");
    b.node("Round", {"c"}, "r");
    b.node("Mul", {"r", "sw"}, "y");
    CHECK(contains(refused(b), "is multiplied by something else"));
  }
  SUBCASE("LSQ without Round") {
    b.node("Div", {"x", "sx"}, "d");
    b.node("Clip", {"d", "zero", "fifteen"}, "c");
    b.node("Mul", {"c", "sx"}, "y");
    CHECK(contains(refused(b), "a quantiser has no Round"));
  }
  SUBCASE("a fractional clip") {
    b.node("Div", {"x", "sx"}, "d");
    b.node("Clip", {"d", "zero", "half"}, "c");
    b.node("Round", {"c"}, "r");
    b.node("Mul", {"r", "sx"}, "y");
    CHECK(contains(refused(b), "which is no code"));
  }
  SUBCASE("codes that never become numbers") {
    b.integers("zx", kUint8, {}, {0});
    b.node("QuantizeLinear", {"x", "sx", "zx"}, "q");
    b.node("Conv", {"q", "w_float"}, "y");
    CHECK(contains(refused(b), "codes of an unfinished quantiser"));
  }
  SUBCASE("16 bit") {
    b.integers("zx", 4, {}, {0});
    b.node("QuantizeLinear", {"x", "sx", "zx"}, "q");
    b.node("DequantizeLinear", {"q", "sx", "zx"}, "y");
    CHECK(contains(refused(b), "quantises to element type 4"));
  }
  SUBCASE("a scale of 0") {
    b.integers("zx", kUint8, {}, {0});
    b.node("QuantizeLinear", {"x", "zero", "zx"}, "q");
    b.node("DequantizeLinear", {"q", "zero", "zx"}, "y");
    CHECK(contains(refused(b), "a scale is not positive and finite"));
  }
  SUBCASE("a difference of activations that is no residue") {
    b.node("Relu", {"x"}, "r");
    b.node("Sub", {"x", "r"}, "d");
    b.node("Relu", {"d"}, "y");
    CHECK(contains(refused(b), "input 0 is a difference of activations"));
  }
}

TEST_CASE("import: batch norm after integer weights folds into their scales") {
  OnnxBuilder b = layer();
  quantise_x(&b, kUint4);
  b.integers("w", kInt4, {2, 1, 1, 1}, {0x1E})
      .floats("gamma", {2}, {2, 4})
      .floats("zero2", {2}, {0, 0})
      .floats("one2", {2}, {1, 1});
  b.node("DequantizeLinear", {"w", "sw"}, "wd");
  b.node("Conv", {"xd", "wd"}, "c");
  set_float(b.node("BatchNormalization", {"c", "gamma", "zero2", "zero2", "one2"}, "y"), "epsilon",
            0.0F);
  Graph graph = imported(b);
  REQUIRE(run_passes(&graph, {.verify = true}).ok());
  REQUIRE(graph.nodes.size() == 2);
  CHECK(graph.nodes[1].weight_quant->codes == std::vector<int8_t>{-2, 1});
  CHECK(graph.nodes[1].weight_quant->spec.scale == Floats{0.5F, 1.0F});
}

}  // namespace mpq::convert
