// Files that lie: structure, lengths, paths. Each must be refused by name, none may crash or read
// outside the model's folder.

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "converter/onnx/external_data.h"
#include "converter/onnx/import.h"
#include "onnx_builder.h"

namespace mpq::convert {
namespace {

namespace fs = std::filesystem;

std::string refused(const OnnxBuilder& builder, const ImportOptions& options = {},
                    const std::string& folder = "") {
  const auto model = import_onnx(builder.model, folder, options);
  return model.ok() ? "" : model.error().message;
}
bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

OnnxBuilder relu() {
  OnnxBuilder b;
  b.input("x", {1, 1, 2, 2}).output("y");
  b.node("Relu", {"x"}, "y");
  return b;
}

// A folder that vanishes with the test.
struct Folder {
  Folder() {
    std::string name = (fs::temp_directory_path() / "mpq-import-XXXXXX").string();
    path = mkdtemp(name.data()) != nullptr ? name : "";
    REQUIRE_FALSE(path.empty());
  }
  ~Folder() { fs::remove_all(path); }
  std::string file(const std::string& name, const std::string& bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return (path / name).string();
  }
  fs::path path;
};

OnnxBuilder external_conv(const std::string& location, const std::string& offset = "",
                          const std::string& length = "") {
  OnnxBuilder b;
  b.input("x", {1, 1, 1, 1}).output("y");
  onnx::TensorProto* w = b.tensor("w", onnx::TensorProto::FLOAT, {2, 1, 1, 1});
  w->set_data_location(onnx::TensorProto::EXTERNAL);
  const auto add = [&](const char* key, const std::string& value) {
    if (value.empty()) return;
    onnx::StringStringEntryProto* entry = w->add_external_data();
    entry->set_key(key);
    entry->set_value(value);
  };
  add("location", location);
  add("offset", offset);
  add("length", length);
  b.node("Conv", {"x", "w"}, "y");
  return b;
}

std::string two_floats(float a, float b) {
  const float values[] = {a, b};
  return {reinterpret_cast<const char*>(values), sizeof values};
}

}  // namespace

TEST_CASE("import: external data is read from the model's folder") {
  const Folder folder;
  fs::create_directory(folder.path / "weights");
  folder.file("weights/w.bin", "????" + two_floats(3, 4) + "!");
  const auto model =
      import_onnx(external_conv("weights/w.bin", "4", "8").model, folder.path.string());
  REQUIRE_MESSAGE(model.ok(), model.error().message);
  CHECK(model->graph.values[model->graph.nodes[0].inputs[1]].data == std::vector<float>{3, 4});
  CHECK(contains(refused(external_conv("weights/w.bin", "4", "8"), {.external_data = false},
                         folder.path.string()),
                 "external data is switched off"));
}

TEST_CASE("import: external data cannot leave the model's folder") {
  const Folder outside, folder;
  const std::string secret = outside.file("secret", two_floats(1, 2));
  const std::string inside = folder.file("w.bin", two_floats(1, 2));
  const fs::path up = fs::relative(secret, folder.path);
  fs::create_symlink(secret, folder.path / "link");
  fs::create_directory_symlink(outside.path, folder.path / "dir");
  fs::create_symlink(folder.path / "w.bin", folder.path / "inner");
  fs::create_hard_link(secret, folder.path / "hard");
  fs::create_directory(folder.path / "folder");
  REQUIRE(mkfifo((folder.path / "fifo").c_str(), 0600) == 0);
  const std::string long_path(5000, 'a');
  for (const std::string& location : {secret,
                                      up.string(),
                                      std::string("./w.bin"),
                                      std::string("a/../w.bin"),
                                      std::string("//w.bin"),
                                      std::string("w.bin/"),
                                      std::string(".."),
                                      std::string("link"),
                                      std::string("dir/secret"),
                                      std::string("inner"),
                                      std::string("hard"),
                                      std::string("fifo"),
                                      std::string("folder"),
                                      std::string("absent"),
                                      std::string("/dev/zero"),
                                      std::string("w.bin\0.txt", 10),
                                      std::string("..\\secret"),
                                      std::string("\xC0\xAE\xC0\xAE/secret"),
                                      std::string("\xE0\x80\xAE"),
                                      std::string("\xED\xA0\x80"),
                                      std::string("w\n.bin"),
                                      long_path}) {
    CAPTURE(location);
    const std::string message = refused(external_conv(location), {}, folder.path.string());
    CHECK(contains(message, "tensor 'w': external data"));
    CHECK(message.size() < 1024);
  }
  CHECK(contains(refused(external_conv(""), {}, folder.path.string()), "the path is empty"));
  CHECK(refused(external_conv("w.bin"), {}, folder.path.string()).empty());
}

TEST_CASE("import: external lengths and offsets must fit the file and the shape") {
  const Folder folder;
  folder.file("w.bin", two_floats(1, 2));
  const std::string path = folder.path.string();
  CHECK(contains(refused(external_conv("w.bin", "1"), {}, path),
                 "has 8 bytes, needed 8 at offset 1"));
  CHECK(contains(refused(external_conv("w.bin", "18446744073709551615"), {}, path), "has 8 bytes"));
  CHECK(contains(refused(external_conv("w.bin", "0", "4"), {}, path),
                 "external length 4, the shape needs 8"));
  CHECK(contains(refused(external_conv("w.bin", "-1"), {}, path), "external offset is no number"));
  CHECK(contains(refused(external_conv("w.bin", "0x0"), {}, path), "external offset is no number"));
}

TEST_CASE("import: truncated and foreign files are refused") {
  const Folder folder;
  std::string bytes;
  OnnxBuilder b = relu();
  b.floats("w", {4}, {1, 2, 3, 4});
  REQUIRE(b.model.SerializeToString(&bytes));
  REQUIRE(import_onnx(folder.file("good.onnx", bytes)).ok());
  size_t accepted = 0;
  for (size_t n = 0; n < bytes.size(); ++n)
    accepted += import_onnx(folder.file("cut.onnx", bytes.substr(0, n))).ok();
  CHECK(accepted == 0);
  CHECK_FALSE(import_onnx(folder.file("text.onnx", "not a model")).ok());
  CHECK_FALSE(import_onnx((folder.path / "absent").string()).ok());
  const auto limited =
      import_onnx(folder.file("good.onnx", bytes), {.max_file_bytes = bytes.size() - 1});
  REQUIRE_FALSE(limited.ok());
  CHECK(limited.error().code == Status::kLimit);
}

TEST_CASE("import: any single byte may be damaged") {
  const Folder folder;
  std::string bytes;
  OnnxBuilder b;
  b.input("x", {1, 1, 4, 4})
      .output("y")
      .floats("w", {1, 1, 3, 3}, std::vector<float>(9, 1.0F))
      .scalar("s", 0.5F)
      .integers("z", onnx::TensorProto::UINT8, {}, {0});
  b.node("QuantizeLinear", {"x", "s", "z"}, "q");
  b.node("DequantizeLinear", {"q", "s", "z"}, "d");
  set_ints(b.node("Conv", {"d", "w"}, "y"), "pads", {1, 1, 1, 1});
  REQUIRE(b.model.SerializeToString(&bytes));
  size_t refused_count = 0;
  for (size_t i = 0; i < bytes.size(); ++i)
    for (const int flip : {0x01, 0x80, 0xFF}) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ flip);
      onnx::ModelProto model;
      if (!model.ParseFromString(damaged) || !import_onnx(model, folder.path.string()).ok())
        ++refused_count;
    }
  CHECK(refused_count > bytes.size());  // most are noticed; none may crash
}

TEST_CASE("import: structure") {
  OnnxBuilder b = relu();
  SUBCASE("cycle") {
    OnnxBuilder c;
    c.input("x", {1, 1, 2, 2}).output("y");
    c.node("Add", {"x", "b"}, "a");
    c.node("Relu", {"a"}, "b");
    c.node("Relu", {"b"}, "y");
    CHECK(
        contains(refused(c), "reads 'b', which nothing before it defines: the graph has a cycle"));
  }
  SUBCASE("a value defined twice") {
    b.node("Relu", {"x"}, "y");
    CHECK(contains(refused(b), "value 'y' is defined twice"));
  }
  SUBCASE("an initialiser defined twice") {
    b.scalar("s", 1).scalar("s", 2);
    CHECK(contains(refused(b), "initialiser name 's' is empty or used twice"));
  }
  SUBCASE("an output nobody defines") {
    b.output("z");
    CHECK(contains(refused(b), "output 'z' is not defined"));
  }
  SUBCASE("subgraphs") {
    onnx::AttributeProto* body = attribute(b.graph().mutable_node(0), "then_branch");
    body->mutable_g()->set_name("g");
    CHECK(contains(refused(b), "subgraphs (If, Loop, Scan) are not supported"));
  }
  SUBCASE("an attribute twice") {
    set_int(b.graph().mutable_node(0), "k", 1);
    set_int(b.graph().mutable_node(0), "k", 2);
    CHECK(contains(refused(b), "attribute 'k' is given twice"));
  }
  SUBCASE("operator sets") {
    b.model.mutable_opset_import(0)->set_version(6);
    CHECK(contains(refused(b), "operator set 6 is not in 7..26"));
    b.model.clear_opset_import();
    CHECK(contains(refused(b), "no operator set of the default domain"));
  }
  SUBCASE("no output") {
    b.graph().clear_output();
    CHECK(contains(refused(b), "the graph has no output"));
  }
  SUBCASE("two inputs") {
    OnnxBuilder c;
    c.input("x", {1, 1, 2, 2}).input("z", {1, 1, 2, 2}).output("y");
    c.node("Add", {"x", "z"}, "y");
    CHECK(contains(refused(c), "only models with one input are supported"));
  }
  SUBCASE("equal node names are told apart") {
    OnnxBuilder c;
    c.input("x", {1, 1, 2, 2}).output("y");
    c.node("Relu", {"x"}, "a")->set_name("same");
    c.node("Relu", {"a"}, "y")->set_name("same");
    const auto model = import_onnx(c.model, "");
    REQUIRE(model.ok());
    CHECK(model->graph.nodes[0].name == "same");
    CHECK(model->graph.nodes[1].name == "same_1");
  }
}

TEST_CASE("import: limits hold at the limit and break above it") {
  const OnnxBuilder b = relu();
  CHECK(refused(b, {.max_nodes = 1}).empty());
  CHECK(contains(refused(b, {.max_nodes = 0}), "1 nodes, limit 0"));
  OnnxBuilder c = relu();
  c.scalar("s", 1);
  CHECK(refused(c, {.max_initializers = 1}).empty());
  CHECK(contains(refused(c, {.max_initializers = 0}), "1 initialisers, limit 0"));
  set_ints(c.graph().mutable_node(0), "k", {1, 2, 3});
  CHECK(refused(c, {.max_attributes = 1, .max_attribute_items = 3}).empty());
  CHECK(contains(refused(c, {.max_attributes = 0}), "1 attributes, limit 0"));
  CHECK(contains(refused(c, {.max_attribute_items = 2}), "attribute 'k' is longer than 2"));
}

TEST_CASE("import: nesting is limited") {
  const Folder folder;
  OnnxBuilder b = relu();
  onnx::GraphProto* graph = attribute(b.graph().mutable_node(0), "body")->mutable_g();
  for (int i = 0; i < 100; ++i) graph = attribute(graph->add_node(), "body")->mutable_g();
  std::string bytes;
  REQUIRE(b.model.SerializeToString(&bytes));
  const auto model = import_onnx(folder.file("deep.onnx", bytes));
  REQUIRE_FALSE(model.ok());
  CHECK(contains(model.error().message, "nested deeper than 64"));
}

TEST_CASE("import: tensors whose numbers do not fit their shape are refused") {
  OnnxBuilder b;
  b.input("x", {1, 1, 1, 1}).output("y");
  b.node("Conv", {"x", "w"}, "y");
  SUBCASE("raw bytes") {
    b.floats("w", {2, 1, 1, 1}, {1});
    CHECK(contains(refused(b), "tensor 'w': 4 bytes of FLOAT for shape 2x1x1x1, expected 8"));
  }
  SUBCASE("typed field") {
    b.tensor("w", onnx::TensorProto::FLOAT, {2, 1, 1, 1})->add_float_data(1);
    CHECK(contains(refused(b), "tensor 'w': 1 values of FLOAT for shape 2x1x1x1"));
  }
  SUBCASE("packed codes") {
    b.tensor("w", 22, {3, 1, 1, 1})->set_raw_data("abc");
    CHECK(contains(refused(b), "3 bytes of INT4 for shape 3x1x1x1, expected 2"));
  }
  SUBCASE("a value out of range") {
    b.integers("w", onnx::TensorProto::INT8, {1, 1, 1, 1}, {200});
    CHECK(contains(refused(b), "value 200 does not fit INT8"));
  }
  SUBCASE("negative shape") {
    b.floats("w", {-1, 1, 1, 1}, {1});
    CHECK(contains(refused(b), "shape -1x1x1x1 is negative"));
  }
  SUBCASE("huge shape") {
    b.floats("w", {int64_t{1} << 40, int64_t{1} << 40, 1, 1}, {1});
    CHECK(contains(refused(b), "too large"));
  }
  SUBCASE("unknown type") {
    b.tensor("w", 99, {1, 1, 1, 1});
    CHECK(contains(refused(b), "element type 99 is not supported"));
  }
}

TEST_CASE("import: hostile attributes are refused") {
  OnnxBuilder b;
  b.input("x", {1, 1, 4, 4}).output("y").floats("w", {1, 1, 3, 3}, std::vector<float>(9, 1.0F));
  onnx::NodeProto* conv = b.node("Conv", {"x", "w"}, "y");
  const char* key = "strides";
  std::vector<int64_t> values;
  SUBCASE("zero stride") { values = {0, 1}; }
  SUBCASE("negative stride") { values = {-1, 1}; }
  SUBCASE("huge dilation") { key = "dilations", values = {int64_t{1} << 40, 1}; }
  SUBCASE("negative padding") { key = "pads", values = {-1, 0, 0, 0}; }
  SUBCASE("missing padding") { key = "pads", values = {1, 1}; }
  SUBCASE("other kernel") { key = "kernel_shape", values = {5, 5}; }
  set_ints(conv, key, values);
  CHECK(contains(refused(b), "node 'y_node' (Conv): "));
}

}  // namespace mpq::convert
