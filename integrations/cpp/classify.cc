// Runs a model on one input file and prints the largest output, as examples/minimal.c does in C:
//   c++ -std=c++20 classify.cc $(pkg-config --cflags --libs mpq) -o classify
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <mpq.hpp>

int main(int argc, char** argv) {
  if (argc != 3) return std::fputs("usage: classify MODEL INPUT\n", stderr), 2;
  try {
    const mpq::Model model(argv[1]);
    mpq::Session session(model);
    const std::span<std::byte> input = session.input<std::byte>(0);
    std::ifstream file(argv[2], std::ios::binary);
    if (!file.read(reinterpret_cast<char*>(input.data()),
                   static_cast<std::streamsize>(input.size())))
      return std::perror(argv[2]), 1;
    session.run();
    const std::span<const float> logits = session.output<float>(0);
    const auto best = std::max_element(logits.begin(), logits.end());
    std::printf("%td %g\n", best - logits.begin(), static_cast<double>(*best));
  } catch (const mpq::StatusError& error) {
    return std::fprintf(stderr, "classify: %s\n", error.what()), 1;
  }
}
