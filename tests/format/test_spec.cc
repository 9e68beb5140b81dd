#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "format/aligned.h"
#include "format/reader.h"
#include "format/writer.h"
#include "tests/format/annotate.h"
#include "tests/format/describe.h"

namespace mpq::test {
namespace {

using namespace format;
namespace fs = std::filesystem;

const fs::path kRoot = MPQ_SOURCE_ROOT;

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

TEST_CASE("spec: the hex dump and the table of checks in SPEC.md are those of this code") {
  const std::string spec = read_file(kRoot / "format" / "SPEC.md");
  const std::string updated = with_generated_sections(spec);
  REQUIRE(!updated.empty());
  CHECK_MESSAGE(spec == updated, "run: build/tests/format/spec_tool --update format/SPEC.md");
  // The comparison can fail: another file has another dump.
  const std::string golden = read_file(kRoot / "tests" / "format" / "golden" / "linear_1_0.fb");
  const std::string other = annotate(std::as_bytes(std::span(golden)));
  CHECK(other.find("tensor 'fc1.weight'") != std::string::npos);
  CHECK(spec.find(other) == std::string::npos);
}

TEST_CASE(
    "golden: files of every released version load for ever, with the content stated beside them") {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(kRoot / "tests" / "format" / "golden")) {
    if (entry.path().extension() != ".fb") continue;
    const std::string name = entry.path().filename().string();
    CAPTURE(name);
    const std::string bytes = read_file(entry.path());
    CHECK(bytes.size() < 20000);
    const AlignedBytes file{std::as_bytes(std::span(bytes))};
    const auto model = read(file.bytes());
    REQUIRE_MESSAGE(model.ok(), model.error().message);
    CHECK(describe(*model) == read_file(fs::path(entry.path()).replace_extension(".txt")));
    // Written again by this version, it says the same.
    const auto again = write(*model);
    REQUIRE_MESSAGE(again.ok(), again.error().message);
    const AlignedBytes copy{std::span<const std::byte>(*again)};
    const auto back = read(copy.bytes());
    REQUIRE(back.ok());
    CHECK(describe(*back) == describe(*model));
    ++files;
  }
  CHECK(files >= 2);
}

}  // namespace
}  // namespace mpq::test
