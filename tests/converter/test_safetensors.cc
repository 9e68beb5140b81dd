// safetensors files: one written by the format's own library, hostile ones written by hand.

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <cstring>

#include "converter/safetensors/reader.h"
#include "converter/safetensors/writer.h"
#include "tests/support/temp_folder.h"

namespace mpq::convert {
namespace {

using tests::TempFolder;

// Written by Python's safetensors 0.8.0 from arrays of NumPy and ml_dtypes.
constexpr char kGoldenHeader[] =
    R"({"__metadata__":{"format":"np"},"ids":{"dtype":"I64","shape":[1,4],"data_offsets":[0,32]},)"
    R"("empty":{"dtype":"F32","shape":[0,3],"data_offsets":[32,32]},)"
    R"("s":{"dtype":"F32","shape":[],"data_offsets":[32,36]},)"
    R"("w":{"dtype":"F32","shape":[3,2],"data_offsets":[36,60]},)"
    R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[60,68]},)"
    R"("h":{"dtype":"F16","shape":[6],"data_offsets":[68,80]}}   )";
constexpr char kGoldenData[] =
    "00000000000000000100000000000000ffffffffffffffff0000000100000000"  // ids
    "0000e040"                                                          // s
    "0000c03f000000c00000404000000080"
    "01000000ffff7f7f"           // w
    "803f20c07f7f0000"           // b
    "003c00c00100ff7b00805535";  // h

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header + data;
}
std::string golden() { return file_of(kGoldenHeader, from_hex(kGoldenData)); }

std::string reason(const std::string& header, uint64_t data_bytes) {
  const auto parsed = parse_safetensors_header(header, data_bytes);
  return parsed.ok() ? "" : parsed.error().message;
}

template <typename T>
std::string message_of(const Result<T>& result) {
  return result.ok() ? "" : result.error().message;
}

bool mentions(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
  return false;
}

std::string tensor(const std::string& name, const std::string& shape, const std::string& offsets,
                   const std::string& type = "F32") {
  return '"' + name + R"(":{"dtype":")" + type + R"(","shape":[)" + shape +
         R"(],"data_offsets":[)" + offsets + "]}";
}

std::string object(const std::string& members) {
  std::string text = "{";  // by appending: g++ 12 warns of an overlap in `"{" + members`
  return text.append(members).append("}");
}

}  // namespace

TEST_CASE("safetensors: what is written is read again, laid out as the format asks") {
  const std::vector<float> w = {1.5F, -2.0F, 3.25F, 0.0F, 1e-9F, 7.0F}, b = {4.0F};
  const std::vector<std::byte> bytes =
      write_safetensors({{"w", {3, 2}, w}, {"empty", {0, 3}, {}}, {"b", {1}, b}});
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]},)"
      R"("empty":{"dtype":"F32","shape":[0,3],"data_offsets":[24,24]},)"
      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[24,28]}})";
  CHECK(text.substr(8, header.size()) == header);
  CHECK((text.size() - 28) % 8 == 0);  // tensors begin on a multiple of 8
  const TempFolder folder;
  const std::string path = (folder.path / "model.safetensors").string();
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  REQUIRE(file != nullptr);
  std::fwrite(bytes.data(), 1, bytes.size(), file);
  std::fclose(file);
  const auto read = Safetensors::open(path);
  REQUIRE_MESSAGE(read.ok(), message_of(read));
  CHECK(*read->floats("w", {3, 2}) == w);
  CHECK(*read->floats("b", {1}) == b);
  CHECK(read->floats("empty", {0, 3})->empty());
}

TEST_CASE("safetensors: what the format's own library wrote is read exactly") {
  const TempFolder folder;
  REQUIRE(golden().size() == 464);
  const auto file = Safetensors::open(folder.write("golden.safetensors", golden()));
  REQUIRE_MESSAGE(file.ok(), message_of(file));
  CHECK(file->entries().size() == 6);
  const auto bits_equal = [&file](const char* name, const Shape& shape,
                                  const std::vector<float>& expected) {
    const auto values = file->floats(name, shape);
    REQUIRE_MESSAGE(values.ok(), message_of(values));
    REQUIRE(values->size() == expected.size());
    CHECK((expected.empty() ||
           std::memcmp(values->data(), expected.data(), expected.size() * sizeof(float)) == 0));
  };
  bits_equal("w", {3, 2}, {1.5F, -2, 3, -0.0F, 0x1p-149F, 0x1.fffffep127F});
  bits_equal("h", {6}, {1, -2, 0x1p-24F, 65504, -0.0F, 0x1.554p-2F});
  bits_equal("b", {4}, {1, -2.5F, 0x1.fep127F, 0});
  bits_equal("ids", {1, 4}, {0, 1, -1, 16777216});
  bits_equal("s", {}, {7});
  bits_equal("empty", {0, 3}, {});
}

TEST_CASE("safetensors: a tensor asked for wrongly is named") {
  const TempFolder folder;
  const auto file = Safetensors::open(folder.write("a.safetensors", golden()));
  REQUIRE(file.ok());
  CHECK(mentions(message_of(file->floats("v", {1})), "tensor 'v' is not among its 6 tensors"));
  CHECK(mentions(message_of(file->floats("w", {2, 3})),
                 "a.safetensors: tensor 'w': shape 3x2, expected 2x3"));
  const auto doubles = Safetensors::open(folder.write(
      "d.safetensors", file_of("{" + tensor("x", "1", "0,8", "F64") + "}", std::string(8, 'x'))));
  REQUIRE(doubles.ok());
  CHECK(mentions(message_of(doubles->floats("x", {1})),
                 "tensor 'x': type F64 not in {F32, F16, BF16, I64}"));
  std::string large = golden();
  large[large.size() - 80 + 27] = 2;  // 2^24 becomes 2^25
  const auto file_large = Safetensors::open(folder.write("l.safetensors", large));
  REQUIRE(file_large.ok());
  CHECK(mentions(message_of(file_large->floats("ids", {1, 4})),
                 "tensor 'ids': integer 3 is beyond 2^24"));
}

TEST_CASE("safetensors: hostile headers are refused, naming tensor and number") {
  const std::string a = tensor("a", "2", "0,8");
  REQUIRE(reason("{" + a + "}", 8).empty());
  REQUIRE(reason("{}", 0).empty());
  REQUIRE(
      reason("{" + a + "," + tensor("z", "0", "8,8") + "," + tensor("b", "", "8,12") + "}  ", 12)
          .empty());
  const struct {
    std::string header;
    const char* message;
  } kCases[] = {
      {"", "does not begin with '{'"},
      {" {" + a + "}", "does not begin with '{'"},
      {"[" + a + "]", "does not begin with '{'"},
      {"{" + a, "no valid JSON"},
      {"{" + a + "}x", "no valid JSON"},
      {"{" + tensor("\xFF", "2", "0,8") + "}", "no valid JSON"},
      {"{" + a + "," + tensor("b", "1", "4,8") + "}",
       "tensor 'b' begins at byte 4, inside another that ends at 8"},
      {"{" + a + "," + a + "}", "tensor 'a' comes twice"},
      {R"({"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}})",
       "tensor 'a': key 'dtype' comes twice"},
      {"{" + tensor("a", "1", "4,8") + "}", "tensor 'a' begins at byte 4, a hole after 0"},
      {"{" + tensor("a", "1", "0,4") + "}", "4 bytes after the last tensor"},
      {"{" + tensor("a", "3", "0,12") + "}", "tensor 'a' ends at byte 12 of 8"},
      {"{" + tensor("a", "3", "0,8") + "}", "tensor 'a': shape 3 of F32 in 8 bytes"},
      {"{" + tensor("a", "1", "0,7") + "}", "tensor 'a': shape 1 of F32 in 7 bytes"},
      {"{" + tensor("a", "1", "0,8", "BF17") + "}", "tensor 'a': type 'BF17' is unknown"},
      {"{" + tensor("a", "2", "8,0") + "}", "tensor 'a': data_offsets are no begin and end"},
      {"{" + tensor("a", "2", "0") + "}", "tensor 'a': data_offsets are no begin and end"},
      {"{" + tensor("a", "2", "0,8,8") + "}", "tensor 'a': data_offsets are no begin and end"},
      {"{" + tensor("a", "2", "0,8.0") + "}", "tensor 'a': 'data_offsets': 8.0 is not expected"},
      {"{" + tensor("a", "2", "-8,0") + "}", "tensor 'a': 'data_offsets': -8 is not expected"},
      {"{" + tensor("a", "-2", "0,8") + "}", "tensor 'a': 'shape': -2 is not expected"},
      {"{" + tensor("a", "2", "0,18446744073709551615") + "}", "18446744073709551615 as number 1"},
      {"{" + tensor("a", "4611686018427387904,4", "0,8") + "}",
       "shape 4611686018427387904x4 of F32 in 8 bytes"},  // 2^64 elements: 0 when it wraps
      {"{" + tensor("a", "4294967296,4294967296,0", "0,8") + "}", "of F32 in 8 bytes"},
      {"{" + tensor("a", "[2]", "0,8") + "}", "tensor 'a': 'shape': a list is not expected"},
      {"{" + tensor("a", "{}", "0,8") + "}", "tensor 'a': 'shape': an object is not expected"},
      {"{" + tensor("a", "\"2\"", "0,8") + "}", "tensor 'a': 'shape': a string is not expected"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", "tensor 'a': 'shape' is missing"},
      {R"({"a":{"dtype":[1],"shape":[2],"data_offsets":[0,8]}})", "'dtype': a list"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"extra":{"b":1}}})",
       "tensor 'a': 'extra': an object is not expected"},
      {R"({"__metadata__":{"n":1}})", "tensor '__metadata__': 'n': 1 is not expected"},
      {R"({"a":7})", "tensor 'a': 7 is not expected"},
      {R"({"a":null})", "tensor 'a': null is not expected"},
      {"{" + tensor(std::string(1000, 'n'), "3", "0,8") + "}", "nnn...': shape 3"},
  };
  for (const auto& c : kCases) {
    CAPTURE(c.header.substr(0, 200));
    CHECK(mentions(reason(c.header, 8), c.message));
  }
}

TEST_CASE("safetensors: deep and long headers stop at the first wrong value") {
  std::string deep = R"({"a":)";
  deep.append(size_t{1} << 22, '[');
  CHECK(mentions(reason(deep, 8), "a list is not expected"));
  std::string numbers = "1";
  for (int i = 0; i < 1 << 20; ++i) numbers += ",1";
  CHECK(mentions(reason(object(tensor("a", numbers, "0,4")), 4), "1 as number 32"));
}

TEST_CASE("safetensors: every truncation is refused, a changed byte never crashes") {
  const TempFolder folder;
  const std::string whole = golden();
  size_t accepted = 0;
  for (size_t n = 0; n < whole.size(); ++n)
    accepted += Safetensors::open(folder.write("cut", whole.substr(0, n))).ok();
  CHECK(accepted == 0);
  CHECK(!Safetensors::open(folder.write("longer", whole + "x")).ok());
  const std::string header = kGoldenHeader;
  for (size_t at = 0; at < header.size(); ++at)
    for (const char c : {'\0', '"', '9', '[', '}', '\x80'}) {
      std::string changed = header;
      changed[at] = c;
      const auto parsed = parse_safetensors_header(changed, 80);
      if (!parsed.ok()) continue;
      for (const auto& [name, entry] : *parsed) CHECK(entry.end <= 80);
    }
}

TEST_CASE("safetensors: the length of the header is checked before memory is taken") {
  const TempFolder folder;
  for (const uint64_t size : {uint64_t{457}, uint64_t{100'000'001}, ~uint64_t{0}, ~uint64_t{7}}) {
    std::string file = golden();
    std::memcpy(file.data(), &size, sizeof size);
    CHECK(mentions(message_of(Safetensors::open(folder.write("long", file))),
                   "a header of " + std::to_string(size) + " bytes"));
  }
  const uint64_t size = 100'000'001;  // in a file that has them: a hole
  const std::string hole =
      folder.write("hole", std::string(reinterpret_cast<const char*>(&size), sizeof size));
  std::filesystem::resize_file(hole, 200'000'000);
  CHECK(mentions(message_of(Safetensors::open(hole)), "the limit is 100000000"));
  CHECK(Safetensors::open((folder.path / "none").string()).error().code == Status::kNotFound);
}

// Expected values: NumPy over the same file.
TEST_CASE("safetensors: the weights of a trained encoder") {
  const auto path = tests::model_cache() / "all-MiniLM-L6-v2" / "model.safetensors";
  if (!std::filesystem::exists(path)) {
    std::printf("SKIPPED: safetensors: MiniLM: run scripts/fetch_text_models.sh\n");
    return;
  }
  const auto file = Safetensors::open(path.string());
  REQUIRE_MESSAGE(file.ok(), message_of(file));
  CHECK(file->entries().size() == 104);
  const auto words = file->floats("embeddings.word_embeddings.weight", {30522, 384});
  REQUIRE_MESSAGE(words.ok(), message_of(words));
  double sum = 0;
  for (const float value : *words) sum += std::fabs(static_cast<double>(value));
  CHECK(sum == doctest::Approx(508883.5765956839).epsilon(1e-12));
  CHECK((*words)[size_t{2054} * 384 + 7] == 0x1.e4ae94p-6F);
  const auto ids = file->floats("embeddings.position_ids", {1, 512});
  REQUIRE(ids.ok());
  CHECK(ids->back() == 511);
}

}  // namespace mpq::convert
