// Rewrites the generated sections of SPEC.md and describes model files:
//   spec_tool --update SPEC.md        spec_tool --dump FILE        spec_tool --describe FILE
//   spec_tool --golden FOLDER         (writes the golden files of this version; once a version)
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "format/aligned.h"
#include "format/reader.h"
#include "format/writer.h"
#include "tests/format/annotate.h"
#include "tests/format/describe.h"
#include "tests/support/tiny_models.h"

namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary)
      .write(text.data(), static_cast<std::streamsize>(text.size()));
}

int describe_file(const std::string& bytes) {
  const mpq::format::AlignedBytes file{std::as_bytes(std::span(bytes))};
  const auto model = mpq::format::read(file.bytes());
  std::printf("%s",
              model.ok() ? mpq::test::describe(*model).c_str() : model.error().message.c_str());
  return model.ok() ? EXIT_SUCCESS : EXIT_FAILURE;
}

int write_golden(const std::string& folder) {
  const std::pair<const char*, mpq::test::TinyModel> models[] = {
      {"conv_1_0", mpq::test::tiny_conv_net()}, {"linear_1_0", mpq::test::tiny_linear_net()}};
  for (const auto& [name, tiny] : models) {
    const auto file = mpq::format::write(tiny.model);
    if (!file.ok()) return EXIT_FAILURE;
    const std::string path = folder + "/" + name;
    write_file(path + ".fb", {reinterpret_cast<const char*>(file->data()), file->size()});
    write_file(path + ".txt", mpq::test::describe(tiny.model));
  }
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return EXIT_FAILURE;
  const std::string what = argv[1], path = argv[2];
  if (what == "--golden") return write_golden(path);
  const std::string bytes = read_file(path);
  if (what == "--describe") return describe_file(bytes);
  if (what == "--dump") {
    std::printf("%s", mpq::test::annotate(std::as_bytes(std::span(bytes))).c_str());
    return EXIT_SUCCESS;
  }
  const std::string updated = mpq::test::with_generated_sections(bytes);
  if (what != "--update" || updated.empty()) return EXIT_FAILURE;
  write_file(path, updated);
  return EXIT_SUCCESS;
}
