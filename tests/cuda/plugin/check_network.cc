// A whole network on a GPU against the CPU, every tensor by its bytes. Whichever driver the loader
// finds says what the GPU is. Exit 77 where there is none.
//
//   check_network MODEL [RUNS [TOKENS [IMAGE]]]
//
// One run: an image, or a sequence of TOKENS (0: as long as the model takes). More: batches of 3,
// sequences of any length up to TOKENS. IMAGE: a file with the bytes of the first image.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tests/cuda/plugin/both.h"

namespace {

constexpr int kSkipped = 77;

int fail(const std::string& what) {
  std::fprintf(stderr, "check_network: %s\n", what.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace mpq::test;
  if (argc < 2) return 2;
  const auto number = [&](int i) {
    return argc > i ? static_cast<uint32_t>(std::strtoul(argv[i], nullptr, 10)) : 0;
  };
  const uint32_t runs = argc > 2 ? number(2) : 1, batch = runs > 1 ? 3 : 1;
  std::vector<uint8_t> image;
  if (argc > 4) {
    std::ifstream file(argv[4], std::ios::binary);
    image.assign((std::istreambuf_iterator<char>(file)), {});
    if (image.empty()) return fail(std::string(argv[4]) + ": nothing to read");
  }
  Both both;
  mpq_status status = MPQ_OK;
  std::string wrong = both.open(argv[1], batch, number(3), &status);
  if (!wrong.empty()) {
    fail(wrong);
    return status == MPQ_DEVICE && wrong.find("unavailable") != std::string::npos ? kSkipped : 1;
  }
  Compared all;
  double seconds = 0.0;
  for (uint32_t run = 0; run < runs && wrong.empty(); ++run) {
    wrong = both.set_inputs(run + 1, image);
    if (wrong.empty()) wrong = both.run_cpu();
    if (wrong.empty()) wrong = both.run_gpu(&seconds);
    if (wrong.empty()) wrong = both.compare(&all);
    image.clear();
  }
  if (!wrong.empty()) return fail(wrong);
  if (all.different != 0) std::printf("%s\n", all.first.c_str());
  const char* const name =
      std::strrchr(argv[1], '/') != nullptr ? std::strrchr(argv[1], '/') + 1 : argv[1];
  std::printf(
      "%s on %s: %u runs of batch %u in %.1f s, %zu launches, %zu tensors, %zu bytes, %zu tensors "
      "differ\n",
      name, both.device(), runs, batch, seconds, both.launches(), all.tensors, all.bytes,
      all.different);
  return all.different == 0 && all.tensors > 0 ? 0 : 1;
}
