// Reads texts, each ended by a NUL byte, and writes a line of "id:begin:end" for each: what
// check_tokenizer.py compares.   tokens FOLDER < texts
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>

#include "converter/transformer/tokenizer_files.h"
#include "text/tokenizer.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("tokens FOLDER < texts\n", stderr);
    return 2;
  }
  const auto files = mpq::convert::transformer::read_tokenizer(argv[1]);
  if (!files.ok()) {
    std::fprintf(stderr, "tokens: %s\n", files.error().message.c_str());
    return 1;
  }
  const auto tokenizer = mpq::text::Tokenizer::create(files->settings, files->vocabulary);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "tokens: %s\n", tokenizer.error().message.c_str());
    return 1;
  }
  const std::string all{std::istreambuf_iterator<char>(std::cin), {}};
  std::string line;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find('\0', begin), all.size());
    const mpq::text::Encoding e = tokenizer->encode({all.data() + begin, end - begin}, 1U << 20);
    line.clear();
    for (size_t i = 0; i < e.ids.size(); ++i)
      line += (i == 0 ? "" : " ") + std::to_string(e.ids[i]) + ":" +
              std::to_string(e.places[i].begin) + ":" + std::to_string(e.places[i].end);
    std::puts(line.c_str());
    begin = end + 1;
  }
  return 0;
}
