// Writes small networks that together have every kernel and form of a GPU session: a file each, in
// the order of kNetworks.
#include <cstdio>
#include <fstream>

#include "format/writer.h"
#include "tests/support/model_maker.h"
#include "tests/support/tiny_models.h"

namespace {

using mpq::test::ModelMaker;

bool write(const mpq::format::Model& model, const char* path) {
  const auto file = mpq::format::write(model);
  if (!file.ok()) {
    std::fprintf(stderr, "write_networks: %s: %s\n", path, file.error().message.c_str());
    return false;
  }
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(file->data()),
            static_cast<std::streamsize>(file->size()));
  return out.good();
}

void make_images(ModelMaker* m) { mpq::test::make_everything_in_groups(m, 1); }

// Two residual blocks after a stem as ResNet-50 has them: 7 x 7 of stride 2 over an image, max
// pool, 1 x 1, 3 x 3, 1 x 1 of 4 bits with a shortcut that is a convolution itself, so that two
// branches may run at the same time; few pixels and many channels in the last 3 x 3, so that its k
// is cut into parts.
void make_residual(ModelMaker* m) {
  using mpq::DType;
  const auto pixels = m->input("pixels", DType::kU8, {1, 32, 32, 3});
  std::vector<uint8_t> table(3 * 256);
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<uint8_t>(i);
  const auto lut = m->constant("table", DType::kU8, {3, 256}, table);
  const auto image = m->node("image", mpq::format::ImageQuantizeAttrs{}, {pixels, lut}, DType::kU8,
                             {1, 3, 32, 32}, {0.02F, 117});
  const auto stem = m->conv(
      "stem", image, 7, 7,
      {.stride_h = 2, .stride_w = 2, .pad_top = 3, .pad_left = 3, .pad_bottom = 3, .pad_right = 3},
      {.out = 32, .weights = DType::kS8, .y = DType::kU4});
  auto x = m->node("pool", mpq::format::MaxPoolAttrs{3, 3, 2, 2, 1, 1, 1, 1}, {stem}, DType::kU4,
                   {1, 32, 8, 8}, {0.05F, 0});
  uint32_t channels = 128;
  for (const uint32_t stride : {1U, 2U}) {
    const std::string name = stride == 1 ? "a." : "b.";
    const auto shortcut =
        m->conv(name + "shortcut", x, 1, 1, {.stride_h = stride, .stride_w = stride},
                {.out = channels, .weights = DType::kS4, .y = DType::kU8});
    auto y = m->conv(name + "1", x, 1, 1, {},
                     {.out = stride == 1 ? 128U : 512U, .weights = DType::kS4, .y = DType::kU4});
    y = m->conv(name + "2", y, 3, 3,
                {.stride_h = stride,
                 .stride_w = stride,
                 .pad_top = 1,
                 .pad_left = 1,
                 .pad_bottom = 1,
                 .pad_right = 1},
                {.out = 192, .weights = DType::kS4, .y = DType::kU4});
    x = m->conv(name + "3", y, 1, 1, {},
                {.out = channels,
                 .weights = DType::kS4,
                 .y = DType::kU4,
                 .residual = shortcut,
                 .residual_shift = 3});
    channels *= 2;
  }
  const auto average = m->node(
      "average", mpq::format::AvgPoolAttrs{.multiplier = 0.6F, .bias = 0.5F, .lo = 0, .hi = 255},
      {x}, DType::kU8, {1, 256, 1, 1}, {0.01F, 0});
  m->model.outputs = {
      m->linear("logits", average, {.out = 100, .weights = DType::kS8, .y = DType::kF32})};
}

}  // namespace

int main(int argc, char** argv) {
  constexpr void (*kNetworks[])(ModelMaker*) = {make_images, mpq::test::make_matrix,
                                                mpq::test::make_codes, make_residual};
  constexpr int kCount = sizeof kNetworks / sizeof kNetworks[0];
  if (argc != 1 + kCount + 1) return 2;
  for (int i = 0; i < kCount; ++i) {
    ModelMaker maker(static_cast<uint32_t>(i + 1), "network");
    kNetworks[i](&maker);
    if (!write(maker.model, argv[1 + i])) return 1;
  }
  return write(mpq::test::sized_text_net(64, 100).model, argv[1 + kCount]) ? 0 : 1;
}
