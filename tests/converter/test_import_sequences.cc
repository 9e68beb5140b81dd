// Encoders of texts from ONNX: what exporters write for a layer of BERT, in its variants, becomes
// the same graph of rows of tokens.

#include <doctest/doctest.h>

#include <cmath>

#include "converter/eval_sequences.h"
#include "converter/onnx/import.h"
#include "converter/onnx/sequence_layout.h"
#include "onnx_builder.h"

namespace mpq::convert {
namespace {

constexpr int64_t kWords = 11, kTypes = 2, kPositions = 16, kWidth = 8, kHeads = 2, kWide = 12;
constexpr int32_t kInt64 = onnx::TensorProto::INT64;

std::vector<float> numbers(int64_t count, int seed) {
  std::vector<float> data(static_cast<size_t>(count));
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = std::sin(static_cast<float>(seed) + 1.7F * static_cast<float>(i));
  return data;
}

// How an exporter writes the parts of the network.
struct Style {
  int64_t opset = 14;
  bool fused_norm = false;        // LayerNormalization, else nine nodes
  bool scaled_inputs = false;     // SDPA: queries and keys scaled, a guard against NaN
  bool attention_op = false;      // opset 23
  bool gelu_op = false;           // opset 20
  bool quantised = false;         // Q/DQ before linear layers, and on their weights
  bool numbers_of_batch = false;  // Reshape to [0, 0, heads, d], else by Shape, Gather, Concat
  std::string head;               // "", "mean", "first", "classifier", "answers"
};

class Bert {
 public:
  explicit Bert(const Style& style) : style_(style), b(style.opset) {
    for (const char* const name : {"input_ids", "attention_mask", "token_type_ids"}) {
      b.input(name, {-1, -1});
      b.graph()
          .mutable_input(b.graph().input_size() - 1)
          ->mutable_type()
          ->mutable_tensor_type()
          ->set_elem_type(kInt64);
    }
    ints("zero", {}, {0}).ints("one", {}, {1}).ints("minus_one", {1}, {-1}).ints("axis0", {1}, {0});
    ints("axis1", {1}, {1}).ints("axis2", {1}, {2}).ints("two", {1}, {2});
    b.scalar("half", 0.5F).scalar("one_f", 1.0F).scalar("two_f", 2.0F).scalar("epsilon", 1e-5F);
    b.scalar("root2", std::sqrt(2.0F)).scalar("lowest", -3.4028235e38F);
    std::string x = norm(embed(), "bert.embeddings.LayerNorm", 10);
    x = layer(x, mask());
    head(x);
  }
  onnx::ModelProto& model() { return b.model; }
  OnnxBuilder& builder() { return b; }

 private:
  Bert& ints(const std::string& name, const std::vector<int64_t>& shape,
             const std::vector<int64_t>& data) {
    b.integers(name, kInt64, shape, data);
    return *this;
  }
  std::string fresh(const std::string& op) { return "/" + op + "_" + std::to_string(count_++); }
  onnx::NodeProto* add(const std::string& op, const std::vector<std::string>& inputs) {
    return b.node(op, inputs, fresh(op));
  }
  std::string op(const std::string& type, const std::vector<std::string>& inputs) {
    return add(type, inputs)->output(0);
  }
  std::string parameter(const std::string& name, const std::vector<int64_t>& shape, int seed,
                        float offset = 0.0F) {
    int64_t count = 1;
    for (const int64_t d : shape) count *= d;
    std::vector<float> data = numbers(count, seed);
    for (float& v : data) v += offset;
    b.floats(name, shape, data);
    return name;
  }
  std::string axis_op(const std::string& type, const std::string& x, int64_t axis) {
    onnx::NodeProto* const node = add(type, {x});
    set_ints(node, "axes", {axis});
    return node->output(0);
  }

  std::string embed() {
    const std::string words = op("Gather", {parameter("words", {kWords, kWidth}, 1), "input_ids"});
    const std::string types =
        op("Gather", {parameter("types", {kTypes, kWidth}, 2), "token_type_ids"});
    std::vector<int64_t> all;
    for (int64_t i = 0; i < kPositions; ++i) all.push_back(i);
    ints("position_ids", {1, kPositions}, all);
    const std::string tokens = op("Gather", {op("Shape", {"input_ids"}), "one"});
    const std::string used =
        op("Slice", {"position_ids", "axis0", op("Unsqueeze", {tokens, "axis0"}), "axis1"});
    const std::string places =
        op("Gather", {parameter("positions", {kPositions, kWidth}, 3), used});
    return op("Add", {op("Add", {words, types}), places});
  }

  // (1 - mask) * lowest, for each head and query.
  std::string mask() {
    const std::string wide =
        op("Unsqueeze", {op("Unsqueeze", {"attention_mask", "axis1"}), "axis2"});
    onnx::NodeProto* const cast = add("Cast", {wide});
    set_int(cast, "to", onnx::TensorProto::FLOAT);
    return op("Mul", {op("Sub", {"one_f", cast->output(0)}), "lowest"});
  }

  std::string norm(const std::string& x, const std::string& name, int seed) {
    const std::string gamma = parameter(name + ".weight", {kWidth}, seed, 1.5F),
                      beta = parameter(name + ".bias", {kWidth}, seed + 1);
    if (style_.fused_norm) {
      onnx::NodeProto* const node = add("LayerNormalization", {x, gamma, beta});
      set_float(node, "epsilon", 1e-5F);
      return node->output(0);
    }
    const std::string centred = op("Sub", {x, axis_op("ReduceMean", x, -1)});
    const std::string variance = axis_op("ReduceMean", op("Pow", {centred, "two_f"}), -1);
    const std::string deviation = op("Sqrt", {op("Add", {variance, "epsilon"})});
    return op("Add", {op("Mul", {op("Div", {centred, deviation}), gamma}), beta});
  }

  std::string linear(const std::string& x, const std::string& name, int64_t from, int64_t to,
                     int seed) {
    const std::string bias = parameter(name + ".bias", {to}, seed + 1);
    if (!style_.quantised)
      return op("Add", {bias, op("MatMul", {x, parameter(name + "_matmul", {from, to}, seed)})});
    b.floats(name + "_scale", {}, {0.125F});
    b.integers(name + "_zero", onnx::TensorProto::UINT8, {}, {100});
    b.integers(name + "_none", onnx::TensorProto::INT8, {}, {0});
    std::vector<int64_t> codes;
    for (const float v : numbers(from * to, seed)) codes.push_back(std::lround(v * 127.0F));
    b.integers(name + "_codes", onnx::TensorProto::INT8, {from, to}, codes);
    const std::string scale = name + "_scale", zero = name + "_zero";
    const std::string rows =
        op("DequantizeLinear", {op("QuantizeLinear", {x, scale, zero}), scale, zero});
    const std::string weights = op("DequantizeLinear", {name + "_codes", scale, name + "_none"});
    return op("Add", {bias, op("MatMul", {rows, weights})});
  }

  std::string split(const std::string& x, const std::vector<int64_t>& order) {
    std::string shape;
    constexpr int64_t kPart = kWidth / kHeads;
    if (style_.numbers_of_batch) {
      shape = fresh("shape");
      ints(shape, {4}, {0, 0, kHeads, kPart});
    } else {
      std::vector<std::string> parts;
      for (const char* const at : {"zero", "one"})
        parts.push_back(op("Unsqueeze", {op("Gather", {op("Shape", {x}), at}), "axis0"}));
      for (const int64_t n : {kHeads, kPart}) {
        parts.push_back(fresh("part"));
        ints(parts.back(), {1}, {n});
      }
      onnx::NodeProto* const node = add("Concat", parts);
      set_int(node, "axis", 0);
      shape = node->output(0);
    }
    onnx::NodeProto* const node = add("Transpose", {op("Reshape", {x, shape})});
    set_ints(node, "perm", order);
    return node->output(0);
  }

  std::string attend(const std::string& x, const std::string& mask, const std::string& at) {
    std::string q = linear(x, at + "self.query", kWidth, kWidth, 21),
                k = linear(x, at + "self.key", kWidth, kWidth, 23);
    const std::string v = split(linear(x, at + "self.value", kWidth, kWidth, 25), {0, 2, 1, 3});
    q = split(q, {0, 2, 1, 3});
    k = split(k, style_.attention_op ? std::vector<int64_t>{0, 2, 1, 3}
                                     : std::vector<int64_t>{0, 2, 3, 1});
    const auto part = static_cast<float>(kWidth / kHeads);
    std::string y;
    if (style_.attention_op) {
      y = op("Attention", {q, k, v, mask});
    } else {
      b.scalar("root", std::sqrt(part)).scalar("fourth_root", std::pow(part, -0.25F));
      if (style_.scaled_inputs) {
        q = op("Mul", {q, "fourth_root"});
        k = op("Mul", {k, "fourth_root"});
      }
      std::string scores = op("MatMul", {q, k});
      if (!style_.scaled_inputs) scores = op("Div", {scores, "root"});
      onnx::NodeProto* const softmax = add("Softmax", {op("Add", {scores, mask})});
      set_int(softmax, "axis", -1);
      std::string p = softmax->output(0);
      b.scalar("nothing", 0.0F);
      if (style_.scaled_inputs) p = op("Where", {op("IsNaN", {p}), "nothing", p});
      y = op("MatMul", {p, v});
    }
    onnx::NodeProto* const back = add("Transpose", {y});
    set_ints(back, "perm", {0, 2, 1, 3});
    ints("merged", {3}, {0, 0, kWidth});
    return op("Reshape", {back->output(0), "merged"});
  }

  std::string gelu(const std::string& x) {
    if (style_.gelu_op) return op("Gelu", {x});
    const std::string erf = op("Erf", {op("Div", {x, "root2"})});
    return op("Mul", {op("Mul", {x, op("Add", {erf, "one_f"})}), "half"});
  }

  std::string layer(std::string x, const std::string& mask) {
    const std::string at = "bert.encoder.layer.0.";
    const std::string y = linear(attend(x, mask, at + "attention."), at + "attention.output.dense",
                                 kWidth, kWidth, 31);
    x = norm(op("Add", {y, x}), at + "attention.output.LayerNorm", 33);
    const std::string up = gelu(linear(x, at + "intermediate.dense", kWidth, kWide, 35));
    const std::string down = linear(up, at + "output.dense", kWide, kWidth, 37);
    return norm(op("Add", {down, x}), at + "output.LayerNorm", 39);
  }

  std::string first_token(const std::string& x) {
    onnx::NodeProto* const node = add("Gather", {x, "zero"});
    set_int(node, "axis", 1);
    return node->output(0);
  }

  void head(const std::string& x) {
    if (style_.head.empty()) b.output(x);
    if (style_.head == "first") b.output(first_token(x));
    if (style_.head == "mean") {
      onnx::NodeProto* const cast = add("Cast", {op("Unsqueeze", {"attention_mask", "axis2"})});
      set_int(cast, "to", onnx::TensorProto::FLOAT);
      const std::string wide = op("Expand", {cast->output(0), op("Shape", {x})});
      b.scalar("tiny", 1e-9F);
      const std::string count = op("Clip", {op("ReduceSum", {wide, "axis1"}), "tiny"});
      onnx::NodeProto* const sum = add("ReduceSum", {op("Mul", {x, wide}), "axis1"});
      const std::string mean = op("Div", {sum->output(0), count});
      const std::string length = axis_op("ReduceL2", mean, 2);
      onnx::NodeProto* const out =
          b.node("Div", {mean, op("Expand", {op("Clip", {length, "tiny"}), op("Shape", {mean})})},
                 "sentence_embedding");
      b.output(x).output(out->output(0));
    }
    if (style_.head == "classifier") {
      b.floats("pool_weight", {kWidth, kWidth}, numbers(kWidth * kWidth, 41));
      b.floats("pool_bias", {kWidth}, numbers(kWidth, 42));
      onnx::NodeProto* const gemm = add("Gemm", {first_token(x), "pool_weight", "pool_bias"});
      set_int(gemm, "transB", 1);
      const std::string pooled = op("Tanh", {gemm->output(0)});
      b.output(linear(pooled, "classifier", kWidth, 3, 43));
    }
    if (style_.head == "answers") {
      onnx::NodeProto* const split = add("Split", {linear(x, "qa_outputs", kWidth, 2, 45)});
      set_int(split, "axis", -1);
      split->add_output("end");
      const std::string start = op("Squeeze", {split->output(0), "minus_one"});
      b.output(start).output(op("Squeeze", {"end", "minus_one"}));
    }
  }

  const Style style_;
  OnnxBuilder b;
  int count_ = 0;
};

Graph imported(Bert bert, const ImportOptions& options = {}) {
  auto model = import_onnx(bert.model(), "", options);
  REQUIRE_MESSAGE(model.ok(), model.error().message);
  return std::move(model->graph);
}

std::string refused(const onnx::ModelProto& model, const ImportOptions& options = {}) {
  const auto imported = import_onnx(model, "", options);
  return imported.ok() ? "" : imported.error().message;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

SequenceData texts() {
  SequenceData data;
  const std::vector<int32_t> a{1, 5, 10, 2}, b{3}, zeros(4, 0), types{0, 1, 1, 0};
  data.add(a, types);
  data.add(b, std::span(zeros).first(1));
  return data;
}

std::vector<float> evaluate(const Graph& graph) {
  auto output = evaluate_sequences(graph, texts());
  REQUIRE_MESSAGE(output.ok(), output.error().message);
  return *output;
}

std::vector<std::string> ops(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) names.emplace_back(op_name(node.op));
  return names;
}

// The network in double, from the parameters alone.
class Reference {
 public:
  using Rows = std::vector<std::vector<double>>;
  static std::vector<float> evaluate() {
    std::vector<float> all;
    const SequenceData data = texts();
    for (size_t s = 0; s < data.count(); ++s)
      for (const auto& row : of(data, s))
        for (const double v : row) all.push_back(static_cast<float>(v));
    return all;
  }

 private:
  static Rows linear(const Rows& x, int64_t from, int64_t to, int seed) {
    const std::vector<float> w = numbers(from * to, seed), b = numbers(to, seed + 1);
    Rows y(x.size(), std::vector<double>(static_cast<size_t>(to)));
    for (size_t r = 0; r < x.size(); ++r)
      for (size_t o = 0; o < y[r].size(); ++o) {
        y[r][o] = b[o];
        for (size_t i = 0; i < x[r].size(); ++i) y[r][o] += x[r][i] * w[i * y[r].size() + o];
      }
    return y;
  }
  static Rows norm(Rows x, int seed) {
    const std::vector<float> gamma = numbers(kWidth, seed), beta = numbers(kWidth, seed + 1);
    for (auto& row : x) {
      double mean = 0.0, variance = 0.0;
      for (const double v : row) mean += v / kWidth;
      for (const double v : row) variance += (v - mean) * (v - mean) / kWidth;
      for (size_t i = 0; i < row.size(); ++i)
        row[i] = (row[i] - mean) / std::sqrt(variance + 1e-5) * (double{gamma[i]} + 1.5) + beta[i];
    }
    return x;
  }
  static Rows plus(Rows a, const Rows& b) {
    for (size_t r = 0; r < a.size(); ++r)
      for (size_t i = 0; i < a[r].size(); ++i) a[r][i] += b[r][i];
    return a;
  }
  static Rows attend(const Rows& q, const Rows& k, const Rows& v) {
    constexpr size_t kPart = kWidth / kHeads;
    Rows y(q.size(), std::vector<double>(kWidth));
    for (size_t h = 0; h < kHeads; ++h)
      for (size_t r = 0; r < q.size(); ++r) {
        std::vector<double> p(k.size());
        double sum = 0.0;
        for (size_t c = 0; c < k.size(); ++c) {
          double dot = 0.0;
          for (size_t i = h * kPart; i < (h + 1) * kPart; ++i) dot += q[r][i] * k[c][i];
          p[c] = std::exp(dot / std::sqrt(double{kPart}));
          sum += p[c];
        }
        for (size_t c = 0; c < k.size(); ++c)
          for (size_t i = h * kPart; i < (h + 1) * kPart; ++i) y[r][i] += p[c] / sum * v[c][i];
      }
    return y;
  }
  static Rows of(const SequenceData& data, size_t s) {
    const std::vector<float> words = numbers(kWords * kWidth, 1),
                             types = numbers(kTypes * kWidth, 2),
                             positions = numbers(kPositions * kWidth, 3);
    Rows x;
    for (size_t t = data.starts[s]; t < data.starts[s + 1]; ++t) {
      x.emplace_back(kWidth);
      for (size_t i = 0; i < kWidth; ++i)
        x.back()[i] = double{words[static_cast<size_t>(data.ids[t]) * kWidth + i]} +
                      types[static_cast<size_t>(data.types[t]) * kWidth + i] +
                      positions[(t - data.starts[s]) * kWidth + i];
    }
    x = norm(x, 10);
    const Rows y = attend(linear(x, kWidth, kWidth, 21), linear(x, kWidth, kWidth, 23),
                          linear(x, kWidth, kWidth, 25));
    x = norm(plus(linear(y, kWidth, kWidth, 31), x), 33);
    Rows up = linear(x, kWidth, kWide, 35);
    for (auto& row : up)
      for (double& v : row) v = 0.5 * v * (1.0 + std::erf(v / std::sqrt(2.0)));
    return norm(plus(linear(up, kWide, kWidth, 37), x), 39);
  }
};

const std::vector<std::string> kLayer = {
    "embedding", "layer_norm", "linear", "linear", "linear", "attention", "linear",
    "add",       "layer_norm", "linear", "gelu",   "linear", "add",       "layer_norm"};

std::vector<std::string> layer_and(const std::vector<std::string>& head) {
  std::vector<std::string> all = kLayer;
  all.insert(all.end(), head.begin(), head.end());
  return all;
}

}  // namespace

TEST_CASE("every way to export a layer of BERT gives the same graph and the right numbers") {
  const Style styles[] = {{},
                          {.opset = 17, .fused_norm = true, .numbers_of_batch = true},
                          {.scaled_inputs = true},
                          {.opset = 17, .fused_norm = true, .scaled_inputs = true},
                          {.opset = 23, .fused_norm = true, .attention_op = true, .gelu_op = true}};
  const std::vector<float> want = Reference::evaluate();
  for (const Style& style : styles) {
    CAPTURE(&style - styles);
    const Graph graph = imported(Bert(style));
    CHECK(graph.sequence_length == kPositions);
    CHECK(ops(graph) == kLayer);
    CHECK(graph.inputs.size() == 2);
    const std::vector<float> got = evaluate(graph);
    REQUIRE(got.size() == want.size());
    for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(want[i]).epsilon(1e-4));
  }
}

TEST_CASE("quantisers of rows and codes of weights are kept") {
  const Graph graph = imported(Bert({.quantised = true}));
  size_t quantisers = 0;
  for (const Node& node : graph.nodes) {
    if (const auto* const quant = std::get_if<FakeQuant>(&node.op)) {
      ++quantisers;
      CHECK(quant->spec.scale == std::vector<float>{0.125F});
      CHECK(quant->spec.zero_point == 100);
    }
    if (!std::holds_alternative<Linear>(node.op)) continue;
    REQUIRE(node.weight_quant);
    CHECK(node.weight_quant->spec.scale == std::vector<float>{0.125F});
    CHECK(std::holds_alternative<FakeQuant>(
        graph.nodes[static_cast<size_t>(producer(graph, node.inputs[0]))].op));
  }
  CHECK(quantisers == 4);  // query, key and value share one
  const Node& query = graph.nodes[3];
  REQUIRE(query.name == "encoder.layer.0.attention.self.query");
  const std::vector<float> want = numbers(kWidth * kWidth, 21);  // [K, N], as the file has it
  for (size_t k = 0; k < kWidth; ++k)
    for (size_t n = 0; n < kWidth; ++n)
      CHECK(query.weight_quant->codes[n * kWidth + k] ==
            std::lround(want[k * kWidth + n] * 127.0F));
}

TEST_CASE("layers have the names of their tensors") {
  const Graph graph = imported(Bert({}));
  std::vector<std::string> names;
  for (const Node& node : graph.nodes)
    if (std::holds_alternative<Linear>(node.op)) names.push_back(node.name);
  CHECK(names == std::vector<std::string>{
                     "encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.key",
                     "encoder.layer.0.attention.self.value",
                     "encoder.layer.0.attention.output.dense", "encoder.layer.0.intermediate.dense",
                     "encoder.layer.0.output.dense"});
}

TEST_CASE("heads become pooling, classifiers and answers") {
  CHECK(ops(imported(Bert({.head = "first"}))) == layer_and({"sequence_pool"}));
  CHECK(ops(imported(Bert({.head = "classifier"}))) ==
        layer_and({"sequence_pool", "linear", "tanh", "linear"}));
  const Graph answers = imported(Bert({.head = "answers"}));
  CHECK(ops(answers) == layer_and({"linear"}));
  CHECK(answers.values[answers.outputs[0]].shape == Shape{1, 2});
  const Graph mean = imported(Bert({.opset = 13, .head = "mean"}));
  CHECK(ops(mean) == layer_and({"sequence_pool"}));
  const auto& pool = std::get<SequencePool>(mean.nodes.back().op);
  CHECK(pool.mean);
  CHECK(pool.normalise);
}

TEST_CASE("the longest sequence is that of the positions unless a shorter one is asked for") {
  CHECK(imported(Bert({}), {.max_tokens = 5}).sequence_length == 5);
  CHECK(imported(Bert({}), {.most_tokens = 9}).sequence_length == 9);
  CHECK(imported(Bert({}), {.most_tokens = 900}).sequence_length == kPositions);
  CHECK(contains(refused(Bert({}).model(), {.max_tokens = 17}),
                 "sequences of 17 tokens, the network has positions for 16"));
}

TEST_CASE("a model exported for one length keeps it") {
  Bert bert({});
  for (auto& input : *bert.builder().graph().mutable_input()) {
    auto* const dim = input.mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim(1);
    dim->set_dim_value(6);
  }
  const auto model = import_onnx(bert.model(), "");
  REQUIRE_MESSAGE(model.ok(), model.error().message);
  CHECK(model->graph.sequence_length == 6);
  CHECK(contains(refused(bert.model(), {.max_tokens = 8}), "exported for exactly 6"));
}

TEST_CASE("what does not fit is refused with node, operator and reason") {
  const auto change = [](const std::string& op, const auto& edit) {
    Bert bert({.opset = 17, .fused_norm = true});
    for (auto& node : *bert.builder().graph().mutable_node())
      if (node.op_type() == op) {
        edit(&node, &bert.builder());
        break;
      }
    return refused(bert.model());
  };
  std::string text = change("Erf", [](auto* node, auto*) { node->set_op_type("Sin"); });
  CHECK(contains(text, "(Sin): the operator is not supported"));
  text = change("Erf", [](auto* node, auto*) { node->set_op_type("Sigmoid"); });
  CHECK(contains(text, "(MatMul)"));
  CHECK(contains(text, "neither GELU, tanh nor ReLU"));
  text = change("Softmax", [](auto* node, auto*) { node->mutable_attribute(0)->set_i(2); });
  CHECK(contains(text, "(Softmax): the softmax of scores is not over the keys"));
  text = change("Sub", [](auto* node, auto* b) {  // masks every second token
    b->floats("mask_of_7", {1, 1, 1, 7}, {0, 1, 0, 1, 0, 1, 0});
    node->set_input(1, "mask_of_7");
  });
  CHECK(contains(text, "masked otherwise than for padding"));
  text = change("LayerNormalization", [](auto* node, auto*) { set_int(node, "axis", 1); });
  CHECK(contains(text, "(LayerNormalization): it normalises something else than rows"));
  text = change("Transpose", [](auto* node, auto*) {
    node->mutable_attribute(0)->set_ints(1, 1);
    node->mutable_attribute(0)->set_ints(2, 2);
  });
  CHECK(contains(text, "(MatMul): the product of"));
}

TEST_CASE("nodes with too few, too many or constant inputs are refused, not followed") {
  const auto change = [](const std::string& op, const auto& edit) {
    Bert bert({.scaled_inputs = true, .head = "answers"});
    for (auto& node : *bert.builder().graph().mutable_node())
      if (node.op_type() == op) edit(&node);
    return refused(bert.model());
  };
  for (const char* const op :
       {"Add",     "Mul",   "Sub",     "Div",   "MatMul",     "Transpose", "Reshape",
        "Softmax", "Pow",   "Sqrt",    "Erf",   "ReduceMean", "Gather",    "Where",
        "IsNaN",   "Split", "Squeeze", "Shape", "Concat",     "Slice"}) {
    CAPTURE(op);
    CHECK_FALSE(change(op, [](auto* node) { node->clear_input(); }).empty());
    // The symbol comes third, behind constants.
    change(op, [](auto* node) {
      node->add_input(node->input(0));
      node->set_input(0, "half");
      node->add_input("half");
    });
    change(op, [](auto* node) {
      const std::string first = node->input(0);
      node->clear_input();
      for (const std::string& input : {std::string("half"), std::string("half"), first})
        node->add_input(input);
    });
    change(op, [](auto* node) { node->clear_attribute(); });
    change(op, [](auto* node) {
      for (auto& a : *node->mutable_attribute()) a.clear_ints();
    });
  }
}

TEST_CASE("one column of two is an output of its own") {
  Bert bert({.head = "answers"});
  bert.builder().graph().mutable_output()->RemoveLast();
  const auto model = import_onnx(bert.model(), "");
  REQUIRE_MESSAGE(model.ok(), model.error().message);
  CHECK(model->graph.values[model->graph.outputs[0]].shape == Shape{1, 1});
}

TEST_CASE("inputs that are no part of a text are refused") {
  Bert bert({});
  auto& graph = bert.builder().graph();
  graph.mutable_input(1)->set_name("pixels");
  for (auto& node : *graph.mutable_node())
    for (auto& input : *node.mutable_input())
      if (input == "attention_mask") input = "pixels";
  CHECK(contains(refused(bert.model()), "input 'pixels' is none of a network of sequences"));
  CHECK(contains(refused(Bert({}).model(), {.input_shape = {1, 3, 8, 8}}), "networks of images"));
}

TEST_CASE("a layout follows the split of heads and refuses to mix tokens and columns") {
  const Layout rows = {{}, {{Axis::kToken, 5, 1}}, columns(6)};
  const auto split = reshaped(rows, {1, 5, 2, 3});
  REQUIRE(split);
  CHECK(split->at(2) == Dim{{Axis::kChannel, 2, 3}});
  CHECK(split->at(3) == Dim{{Axis::kChannel, 3, 1}});
  CHECK(reshaped(*split, {5, 6}) == Layout{{{Axis::kToken, 5, 1}}, columns(6)});
  const Layout swapped = {split->at(0), split->at(2), split->at(1), split->at(3)};
  CHECK(shape_of(swapped) == Shape{1, 2, 5, 3});
  CHECK(reshaped(swapped, {2, 15}));
  CHECK_FALSE(reshaped(swapped, {1, 5, 6}));
  CHECK_FALSE(reshaped(rows, {1, 6, 5}));
  CHECK_FALSE(reshaped(rows, {1, 5, 7}));
  CHECK(is_rows(rows, 6));
  CHECK_FALSE(is_rows(*split, 6));
}

}  // namespace mpq::convert
