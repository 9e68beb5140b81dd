#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "converter/nvidia/import.h"
#include "converter/nvidia/source.h"
#include "converter/nvidia/staircase.h"

using namespace mpq::convert::nvidia;
namespace fs = std::filesystem;

namespace {

// Every accumulator of a range, one by one.
bool equal_everywhere(const IntegerRule& integer, const FloatRule& real, AccRange range) {
  for (int64_t acc = range.min; acc <= range.max; ++acc)
    if (integer(acc) != real(acc)) return false;
  return true;
}

// A folder that vanishes with the test.
struct Folder {
  fs::path path;
  Folder() {
    std::string name = (fs::temp_directory_path() / "mpq_nvidia_XXXXXX").string();
    path = mkdtemp(name.data());
    fs::create_directories(path / "model" / "npdata");
  }
  ~Folder() { fs::remove_all(path); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
  }
};

}  // namespace

TEST_CASE("nvidia: the integer rule rounds half away from zero and clamps") {
  const IntegerRule rule{32768, 16, -7, 7};  // one half
  CHECK_EQ(rule(1), 1);
  CHECK_EQ(rule(-1), -1);
  CHECK_EQ(rule(2), 1);
  CHECK_EQ(rule(3), 2);
  CHECK_EQ(rule(-5), -3);
  CHECK_EQ(rule(100), 7);
  CHECK_EQ(rule(-100), -7);
  CHECK_EQ(IntegerRule{3, 0, -100, 100}(-7), -21);  // no shift, nothing to round
}

TEST_CASE("nvidia: the staircase comparison finds what a walk over every accumulator finds") {
  // Factors with and without ties, biases that are right, too small to break ties, and wrong.
  for (const int64_t factor : {0, 1, 2, 71, 3641, 8192, 16384, 32768, 49152, 65535})
    for (const float bias : {0x1p-17F, 0.0F, -0x1p-17F, 0.25F, 0x1p-16F}) {
      const IntegerRule integer{factor, 16, 0, 15};
      const FloatRule real{static_cast<float>(std::ldexp(factor, -16)), bias, 0, 15, 0};
      const AccRange range{-500, 200000};
      CAPTURE(factor);
      CAPTURE(bias);
      CHECK_EQ(compare_staircases(integer, real, range) >= 0,
               equal_everywhere(integer, real, range));
    }
}

TEST_CASE("nvidia: a half-up bias agrees for every factor that a 4-bit output can have") {
  for (int64_t factor = 1; factor < 65536; factor += 37) {
    const IntegerRule integer{factor, 16, 0, 15};
    const FloatRule real{static_cast<float>(std::ldexp(factor, -16)), 0x1p-17F, 0, 15, 0};
    REQUIRE_GE(compare_staircases(integer, real, {-(1 << 24), 1 << 30}), 0);
  }
}

TEST_CASE("nvidia: signed codes around a zero point agree where there are no ties") {
  const IntegerRule integer{3641, 16, -127, 127};
  const float m = std::ldexp(3641.0F, -16);
  CHECK_EQ(compare_staircases(integer, {m, 128.0F, 1, 255, 128}, {-40000, 40000}), 254);
  // With ties on both sides no bias can serve.
  const IntegerRule ties{32768, 16, -127, 127};
  for (const float bias : {128.0F, 128.0F + 0x1p-16F, 128.0F - 0x1p-16F})
    CHECK_EQ(compare_staircases(ties, {0.5F, bias, 1, 255, 128}, {-400, 400}), -1);
}

TEST_CASE("nvidia: descriptors and tensors are read as they are written") {
  const Folder folder;
  folder.write("model/model", "ResNetQuantized\ncompute_mode=s8f32\n");
  folder.write(
      "model/layer",
      "Conv2d\nstride=2:2 1\nbias=s16,1:2\n!model/npdata/b\nweight=s4,2:1 3\n!model/npdata/w\n");
  folder.write("model/npdata/b", std::string("\xFF\xFF\x01\x02", 4));
  folder.write("model/npdata/w", std::string("\x8F\x07", 2));
  for (const fs::path& path : {folder.path, folder.path / "model", folder.path / "model/"}) {
    CAPTURE(path.string());
    const auto source = Source::open(path.string());
    REQUIRE(source.ok());
    const auto layer = source->read("layer");
    REQUIRE(layer.ok());
    CHECK_EQ(layer->type, "Conv2d");
    CHECK_EQ(*layer->integers("stride"), std::vector<int64_t>{2, 1});
    CHECK_EQ((*layer->tensor("bias", "s16", {2}))->integers(), std::vector<int32_t>{-1, 0x201});
    CHECK_EQ((*layer->tensor("weight", "s4", {1, 3}))->integers(), std::vector<int32_t>{-1, -8, 7});
    CHECK_FALSE(layer->tensor("weight", "s4", {3, 1}).ok());
    CHECK_FALSE(layer->tensor("weights", "s4", {1, 3}).ok());
    CHECK_FALSE(layer->integer("stride").ok());
  }
}

TEST_CASE("nvidia: broken files are refused with the place") {
  const Folder folder;
  folder.write("model/model", "ResNetQuantized\n");
  folder.write("model/npdata/x", "abc");
  const auto source = Source::open(folder.path.string());
  REQUIRE(source.ok());
  struct Row {
    const char* text;
    const char* message;
  };
  const Row rows[] = {
      {"", "empty descriptor"},
      {"Conv2d\nnonsense\n", "line 'nonsense' is not key=value"},
      {"Conv2d\n!model/npdata/x\n", "tensor file without a key"},
      {"Conv2d\nw=s5,1:3\n!model/npdata/x\n", "unknown element type 's5'"},
      {"Conv2d\nw=s8,2:3\n!model/npdata/x\n", "malformed shape"},
      {"Conv2d\nw=s8,1:4\n!model/npdata/x\n", "has 3 bytes, s8 4 needs 4"},
      {"Conv2d\nw=s8,3:9999999999 9999999999 9\n!model/npdata/x\n", "out of range"},
      {"Conv2d\nw=s8,1:-3\n!model/npdata/x\n", "out of range"},
      {"Conv2d\nw=s8,1:3\n!model/npdata/y\n", "cannot open"},
      {"Conv2d\nw=s8,1:3\n!../x\n", "leaves the folder"},
      {"Conv2d\nw=s8,1:3\n!/etc/passwd\n", "is absolute"},
  };
  for (const Row& row : rows) {
    folder.write("model/layer", row.text);
    const auto layer = source->read("layer");
    REQUIRE_FALSE(layer.ok());
    INFO(layer.error().message);
    CHECK(layer.error().message.find(row.message) != std::string::npos);
  }
  CHECK_FALSE(import_release(folder.path.string()).ok());
  CHECK_FALSE(import_release((folder.path / "absent").string()).ok());
  CHECK_FALSE(import_release((folder.path / "model/npdata/x").string()).ok());
}
