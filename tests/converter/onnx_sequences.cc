// Imports an ONNX model of sequences, runs the float passes and evaluates it: what
// oracle/check_encoders.py compares with ONNX Runtime.
//
//   onnx_sequences model.onnx sequences.i32 output.f32 [--print] [--max-tokens=N]
//
// sequences.i32: for each sequence its length n, n word indices, n token types.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "converter/eval_sequences.h"
#include "converter/onnx/import.h"
#include "converter/passes/pass.h"

namespace mpq::convert {
namespace {

std::vector<int32_t> read_numbers(const char* path) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
  const auto* const numbers = reinterpret_cast<const int32_t*>(bytes.data());
  return {numbers, numbers + bytes.size() / sizeof(int32_t)};
}

Checked run(int argc, char** argv) {
  ImportOptions options;
  bool show = false;
  for (int i = 4; i < argc; ++i) {
    const std::string argument = argv[i];
    show = show || argument == "--print";
    if (argument.starts_with("--max-tokens="))
      options.max_tokens = static_cast<uint32_t>(std::strtoul(argv[i] + 13, nullptr, 10));
  }
  MPQ_TRY(ImportedModel model, import_onnx(argv[1], options));
  for (const std::string& note : model.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  const PassOptions passes;
  MPQ_CHECK(run_passes(&model.graph, passes));
  if (show) std::printf("%s", print(model.graph).c_str());
  const std::vector<int32_t> numbers = read_numbers(argv[2]);
  SequenceData data;
  for (size_t at = 0; at < numbers.size();) {
    const auto n = static_cast<size_t>(numbers[at]);
    if (n > (numbers.size() - at - 1) / 2)
      return Error{Status::kCorrupt, std::string(argv[2]) + ": ends within a sequence"};
    const std::span<const int32_t> all(numbers);
    data.add(all.subspan(at + 1, n), all.subspan(at + 1 + n, n));
    at += 1 + 2 * n;
  }
  MPQ_TRY(const std::vector<float> output, evaluate_sequences(model.graph, data));
  std::ofstream out(argv[3], std::ios::binary);
  out.write(reinterpret_cast<const char*>(output.data()),
            static_cast<std::streamsize>(output.size() * sizeof(float)));
  if (!out.flush()) return Error{Status::kIo, std::string(argv[3]) + ": cannot be written"};
  return Ok{};
}

}  // namespace
}  // namespace mpq::convert

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr,
                 "usage: onnx_sequences model.onnx sequences.i32 output.f32 [--print] "
                 "[--max-tokens=N]\n");
    return 2;
  }
  const mpq::Checked done = mpq::convert::run(argc, argv);
  if (done.ok()) return 0;
  std::fprintf(stderr, "onnx_sequences: %s\n", done.error().message.c_str());
  return 1;
}
