// Writes a small model of texts: MODEL.
#include <cstdio>
#include <fstream>

#include "format/writer.h"
#include "tests/support/tiny_models.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto file = mpq::format::write(mpq::test::tiny_text_net().model);
  if (!file.ok()) {
    std::fprintf(stderr, "write_text: %s\n", file.error().message.c_str());
    return 1;
  }
  std::ofstream out(argv[1], std::ios::binary);
  out.write(reinterpret_cast<const char*>(file->data()),
            static_cast<std::streamsize>(file->size()));
  return out.good() ? 0 : 1;
}
