// Writes a small model, an input for it and the naive interpreter's output 0: MODEL INPUT EXPECTED.

#include <cstdio>
#include <fstream>

#include "format/writer.h"
#include "tests/support/model_maker.h"
#include "tests/support/naive_model.h"

namespace {

bool write_file(const char* path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  return file.good();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace mpq;
  if (argc != 4) return 2;
  test::ModelMaker maker(1, "everything");
  test::make_everything(&maker);
  format::Model& model = maker.model;
  model.metadata = {{"author", "tests"}, {"license", "none"}};
  for (int i = 0; i < 10; ++i) model.labels.push_back("class " + std::to_string(i));
  model.has_image_preprocess = true;
  model.image.crop_h = 17;
  model.image.crop_w = 15;
  model.map.method = "manual";
  model.map.cost_model = "bmac";
  model.map.groups = {
      {.gain = 1.5, .gain_stderr = 0.25, .cost_high = 8, .cost_low = 4, .fixed = true}};
  model.map.layers = {{.node = "stem", .weight_bits = 8, .activation_bits = 8, .group = 0}};
  const auto file = format::write(model);
  if (!file.ok()) {
    std::fprintf(stderr, "write_tiny: %s\n", file.error().message.c_str());
    return 1;
  }
  std::vector<std::byte> input;
  for (int i = 0; i < 17 * 15 * 3; ++i) input.push_back(static_cast<std::byte>(maker.pick(0, 255)));
  const auto values = test::naive_run(model, {input});
  const format::TensorId output = model.outputs[0];
  const auto expected = test::api_bytes(model.tensors[output], values[output]);
  return write_file(argv[1], *file) && write_file(argv[2], input) && write_file(argv[3], expected)
             ? 0
             : 1;
}
