// Imports an ONNX model, runs the float passes and evaluates it: what the oracle scripts compare
// with other implementations.
//
//   onnx_eval model.onnx input.f32 output.f32 batch [--print] [--input-shape=1,3,224,224]

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "converter/eval.h"
#include "converter/onnx/import.h"
#include "converter/passes/pass.h"

namespace mpq::convert {
namespace {

Checked run(int argc, char** argv) {
  ImportOptions options;
  bool show = false;
  for (int i = 5; i < argc; ++i) {
    const std::string argument = argv[i];
    show = show || argument == "--print";
    if (argument.rfind("--input-shape=", 0) == 0)
      for (const char* p = argument.c_str() + 14; *p != '\0'; p += *p == ',') {
        char* end = nullptr;
        options.input_shape.push_back(std::strtoll(p, &end, 10));
        p = end;
      }
  }
  MPQ_TRY(ImportedModel model, import_onnx(argv[1], options));
  for (const std::string& note : model.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  PassOptions passes;
  passes.verify = true;
  MPQ_CHECK(run_passes(&model.graph, passes));
  if (show) std::printf("%s", print(model.graph).c_str());
  std::ifstream in(argv[2], std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
  const auto batch = static_cast<uint32_t>(std::strtoul(argv[4], nullptr, 10));
  MPQ_TRY(Evaluator evaluator, Evaluator::create(model.graph, batch));
  MPQ_TRY(
      const std::vector<float> output,
      evaluator.run({reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)}));
  std::ofstream out(argv[3], std::ios::binary);
  out.write(reinterpret_cast<const char*>(output.data()),
            static_cast<std::streamsize>(output.size() * sizeof(float)));
  if (!out.flush()) return Error{Status::kIo, std::string(argv[3]) + ": cannot be written"};
  return Ok{};
}

}  // namespace
}  // namespace mpq::convert

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr,
                 "usage: onnx_eval model.onnx input.f32 output.f32 batch [--print] "
                 "[--input-shape=1,3,224,224]\n");
    return 2;
  }
  const mpq::Checked done = mpq::convert::run(argc, argv);
  if (done.ok()) return 0;
  std::fprintf(stderr, "onnx_eval: %s\n", done.error().message.c_str());
  return 1;
}
