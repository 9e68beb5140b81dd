// Runs the fuzz target on the files and folders named, then on mutations of them from a fixed seed:
// the fuzzer's job in a build of any compiler, as an ordinary test. `--write-seeds FOLDER` writes
// the tiny models there to start a fuzzer from.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "format/writer.h"
#include "tests/fuzz/target.h"
#include "tests/support/tiny_models.h"

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

Bytes read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> list;
  for (const auto make : {mpq::test::tiny_conv_net, mpq::test::tiny_linear_net}) {
    const auto file = mpq::format::write(make().model);
    if (!file.ok()) std::exit(EXIT_FAILURE);
    const auto* p = reinterpret_cast<const uint8_t*>(file->data());
    list.emplace_back(p, p + file->size());
  }
  return list;
}

uint32_t state = 2463534242;
uint32_t random_below(size_t n) {  // xorshift
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return static_cast<uint32_t>(state % n);
}

// One to four changes: a byte, an aligned word from a list of awkward ones, a copied run, a cut.
Bytes mutate(Bytes bytes) {
  constexpr uint32_t kAwkward[] = {0,          1,          4,          0x7F,    0xFF,
                                   0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000, 0x7FC00000};
  for (uint32_t n = 1 + random_below(4); n != 0 && bytes.size() >= 128; --n) {
    const size_t head = std::min<size_t>(bytes.size(), 4096);
    switch (random_below(8)) {
      case 0:
      case 1:
      case 2:
        bytes[random_below(head)] = static_cast<uint8_t>(random_below(256));
        break;
      case 3:
      case 4:
      case 5: {
        const uint32_t word = kAwkward[random_below(std::size(kAwkward))];
        std::memcpy(bytes.data() + random_below(head / 4) * 4, &word, 4);
        break;
      }
      case 6:
        std::copy_n(bytes.data() + random_below(head - 64), 1 + random_below(63),
                    bytes.data() + random_below(head - 64));
        break;
      default:
        bytes.resize(bytes.size() - random_below(64));
        break;
    }
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Bytes> corpus = seeds();
  if (argc == 3 && std::string(argv[1]) == "--write-seeds") {
    for (size_t i = 0; i < corpus.size(); ++i)
      std::ofstream(fs::path(argv[2]) / ("seed" + std::to_string(i) + ".fb"), std::ios::binary)
          .write(reinterpret_cast<const char*>(corpus[i].data()),
                 static_cast<std::streamsize>(corpus[i].size()));
    return EXIT_SUCCESS;
  }
  for (int i = 1; i < argc; ++i) {
    if (!fs::is_directory(argv[i])) {
      corpus.push_back(read_file(argv[i]));
      continue;
    }
    std::vector<fs::path> paths;
    for (const auto& entry : fs::recursive_directory_iterator(argv[i]))
      if (entry.is_regular_file()) paths.push_back(entry.path());
    std::ranges::sort(paths);
    for (const fs::path& path : paths) corpus.push_back(read_file(path));
  }
  for (const Bytes& bytes : corpus) mpq::test::fuzz_model(bytes.data(), bytes.size());
  constexpr int kMutations = 100000;
  for (int i = 0; i < kMutations; ++i) {
    const Bytes bytes = mutate(corpus[random_below(corpus.size())]);
    mpq::test::fuzz_model(bytes.data(), bytes.size());
  }
  std::printf("%zu files and %d mutations of them: none crashes the reader\n", corpus.size(),
              kMutations);
  return EXIT_SUCCESS;
}
