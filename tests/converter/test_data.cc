// Images and data sets: pixels equal Pillow's, crops equal torchvision's, bad files give errors.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "converter/data/dataset.h"
#include "converter/data/image.h"
#include "tests/converter/pillow_golden.h"

using mpq::Status;
using mpq::data::decode_image;
using mpq::data::Image;
using mpq::data::ImageDataset;
using mpq::data::preprocess;
using mpq::format::ImagePreprocess;
using Resize = ImagePreprocess::Resize;
namespace fs = std::filesystem;

namespace {

using Bytes = std::vector<std::byte>;

Image pattern(uint32_t width, uint32_t height) {  // the formula of check_pillow.py
  Image image{width, height, {}};
  for (uint32_t y = 0; y < height; ++y)
    for (uint32_t x = 0; x < width; ++x)
      for (uint32_t c = 0; c < 3; ++c)
        image.rgb.push_back(static_cast<uint8_t>(x * 37 + y * 101 + c * 59 + x * y % 251 * 7));
  return image;
}

uint32_t crc32(std::span<const uint8_t> bytes) {
  uint32_t crc = ~0U;
  for (const uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xEDB88320U & (0U - (crc & 1)));
  }
  return ~crc;
}

Bytes from_hex(const std::string& hex) {
  Bytes bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

Bytes golden(const std::string& name) {
  for (const GoldenFile& file : kGoldenFiles)
    if (name == file.name) return from_hex(file.hex);
  FAIL("no golden file " << name);
  return {};
}

// A folder that disappears with the test.
struct TempFolder {
  fs::path path;
  TempFolder() {
    std::string name = (fs::temp_directory_path() / "mpq_data_XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~TempFolder() { fs::remove_all(path); }
  std::string write(const std::string& name, const Bytes& bytes) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return (path / name).string();
  }
  std::string write(const std::string& name, const std::string& text) const {
    const auto* begin = reinterpret_cast<const std::byte*>(text.data());
    return write(name, Bytes(begin, begin + text.size()));
  }
};

bool mentions(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
  return false;
}

ImagePreprocess spec_of(Resize resize, uint32_t shorter, uint32_t crop,
                        bool crop_only_small = false) {
  ImagePreprocess spec;
  spec.resize = resize;
  spec.resize_shorter = shorter;
  spec.crop_h = spec.crop_w = crop;
  spec.crop_only_small = crop_only_small;
  return spec;
}

}  // namespace

TEST_CASE("image: resizing gives Pillow's bytes") {
  for (const GoldenResize& g : kGoldenResizes) {
    const Image out = mpq::data::resize(pattern(g.width, g.height), g.new_width, g.new_height,
                                        static_cast<Resize>(g.method));
    CAPTURE(g.width);
    CAPTURE(g.new_width);
    CAPTURE(g.method);
    CHECK(out.width == g.new_width);
    CHECK(out.height == g.new_height);
    CHECK(crc32(out.rgb) == g.crc);
  }
}

TEST_CASE("image: decoding gives Pillow's bytes") {
  for (const GoldenFile& file : kGoldenFiles) {
    CAPTURE(file.name);
    const auto image = decode_image(from_hex(file.hex), file.name);
    REQUIRE(image.ok());
    CHECK(image->width == file.width);
    CHECK(image->height == file.height);
    CHECK(crc32(image->rgb) == file.crc);
  }
}

TEST_CASE("image: bytes that are no image are refused by name") {
  const auto image = decode_image(Bytes(100, std::byte{'x'}), "cat.bmp");
  REQUIRE(!image.ok());
  CHECK(image.error().code == Status::kCorrupt);
  CHECK(mentions(image.error().message, "cat.bmp: neither JPEG nor PNG nor netpbm (100 bytes)"));
  CHECK(!decode_image({}, "empty").ok());
}

TEST_CASE("image: a truncated file is an error, or at least never a crash, at every length") {
  for (const char* name : {"rgb 4:2:0 jpeg", "rgb 4:4:4 progressive jpeg", "rgb png"}) {
    const Bytes whole = golden(name);
    const bool jpeg = std::string(name).ends_with("jpeg");
    // The last two bytes of a JPEG are its end mark, without which the picture is complete all the
    // same.
    for (size_t size = 0; size < whole.size() - (jpeg ? 2 : 0); ++size) {
      const auto image = decode_image(std::span(whole).first(size), name);
      CAPTURE(size);
      CHECK(!image.ok());
    }
  }
}

TEST_CASE("image: a flipped byte never crashes the decoder") {
  for (const GoldenFile& file : kGoldenFiles) {
    const Bytes whole = from_hex(file.hex);
    for (size_t i = 0; i < whole.size(); ++i)
      for (const int flip : {0x01, 0x80, 0xFF}) {
        Bytes bytes = whole;
        bytes[i] ^= static_cast<std::byte>(flip);
        const auto image = decode_image(bytes, file.name);
        if (image.ok()) CHECK(image->rgb.size() == size_t{image->width} * image->height * 3);
      }
  }
}

TEST_CASE("image: more than 64 megapixels are refused before memory is taken") {
  Bytes jpeg = golden("rgb 4:2:0 jpeg");
  for (size_t i = 0; i + 9 < jpeg.size(); ++i)  // SOF0: marker, length, precision, height, width
    if (jpeg[i] == std::byte{0xFF} && jpeg[i + 1] == std::byte{0xC0})
      for (size_t at = i + 5; at < i + 9; ++at) jpeg[at] = std::byte{0x40};
  const auto image = decode_image(jpeg, "huge.jpg");
  REQUIRE(!image.ok());
  CHECK(image.error().code == Status::kLimit);
  CHECK(mentions(image.error().message,
                 "huge.jpg: image of 16448x16448 has more than 64 megapixels"));
}

TEST_CASE("image: files that cannot be read are named") {
  const TempFolder folder;
  CHECK(mpq::data::load_image((folder.path / "none.jpg").string()).error().code ==
        Status::kNotFound);
  const auto opened = mpq::data::load_image(folder.path.string());
  CHECK(mentions(opened.error().message, "not a regular file"));
}

TEST_CASE("preprocess: the centre crop rounds its offset half to even") {
  // Offsets of torchvision's CenterCrop(4): round((side - 4) / 2) = 0, 0, 1, 2, 2, 2, 3 for
  // sides 4..10.
  const uint32_t offsets[] = {0, 0, 1, 2, 2, 2, 3};
  for (uint32_t side = 4; side <= 10; ++side) {
    const Image image = pattern(side, 4);
    const auto out = preprocess(image, spec_of(Resize::kNone, 0, 4));
    REQUIRE(out.ok());
    REQUIRE(out->size() == 48);
    CAPTURE(side);
    for (size_t i = 0; i < 12; ++i) CHECK((*out)[i] == image.rgb[offsets[side - 4] * 3 + i]);
  }
}

TEST_CASE(
    "preprocess: the shorter side is resized as torchvision does, the longer one rounds down") {
  // 500x375 to 256: 256 * 500 / 375 = 341.33 -> 341; crop offsets round((341-224)/2) = 58,
  // (256-224)/2 = 16.
  const Image image = pattern(500, 375);
  const Image resized = mpq::data::resize(image, 341, 256, Resize::kBilinearAntialias);
  const auto out = preprocess(image, spec_of(Resize::kBilinearAntialias, 256, 224));
  REQUIRE(out.ok());
  for (size_t row = 0; row < 224; ++row)
    REQUIRE(std::equal(out->begin() + static_cast<ptrdiff_t>(row * 672),
                       out->begin() + static_cast<ptrdiff_t>((row + 1) * 672),
                       resized.rgb.begin() + static_cast<ptrdiff_t>(((16 + row) * 341 + 58) * 3)));
}

TEST_CASE("preprocess: small images are only cropped when the model says so") {
  const Image image = pattern(227, 227);
  const auto cropped = preprocess(image, spec_of(Resize::kBilinearAntialias, 256, 224, true));
  const auto resized = preprocess(image, spec_of(Resize::kBilinearAntialias, 256, 224, false));
  REQUIRE(cropped.ok());
  REQUIRE(resized.ok());
  CHECK((*cropped)[0] == image.rgb[(2 * 227 + 2) * 3]);  // offset 2
  CHECK(*cropped != *resized);
  // Larger than resize_shorter: resized in both cases.
  const Image large = pattern(300, 280);
  CHECK(*preprocess(large, spec_of(Resize::kBilinearAntialias, 256, 224, true)) ==
        *preprocess(large, spec_of(Resize::kBilinearAntialias, 256, 224, false)));
}

TEST_CASE("preprocess: an image smaller than the crop is scaled up to it, never padded") {
  const Image image = pattern(10, 20);
  const auto out = preprocess(image, spec_of(Resize::kBilinearAntialias, 0, 30));
  REQUIRE(out.ok());
  const Image resized = mpq::data::resize(image, 30, 60, Resize::kBilinearAntialias);
  CHECK((*out)[0] == resized.rgb[15 * 30 * 3]);  // rows 15..44 of 60
  const auto refused = preprocess(image, spec_of(Resize::kNone, 0, 30));
  CHECK(mentions(refused.error().message, "image of 10x20 is smaller than the crop of 30x30"));
  CHECK(preprocess(pattern(1, 40000), spec_of(Resize::kBilinearAntialias, 256, 224)).error().code ==
        Status::kLimit);
}

TEST_CASE("normalise: planes in RGB order, (pixel / 255 - mean) / stddev in binary32") {
  ImagePreprocess spec = spec_of(Resize::kNone, 0, 1);
  spec.mean = {0.5F, 0.25F, 0.0F};
  spec.stddev = {0.5F, 0.5F, 2.0F};
  const std::vector<uint8_t> two_images = {255, 0, 51, 0, 255, 102};
  CHECK(
      mpq::data::normalise_nchw(two_images, spec) ==
      std::vector<float>{1.0F, -0.5F, 51.0F / 255.0F / 2.0F, -1.0F, 1.5F, 102.0F / 255.0F / 2.0F});
}

TEST_CASE("dataset: labels.txt in its three forms, class names, order of the file") {
  const TempFolder folder;
  const Bytes image = golden("rgb png");
  for (const char* name : {"a.png", "my cat.png", "sub/c.png"}) folder.write(name, image);
  folder.write("labels.txt", "# comment\nsub/c.png 2 great white\nmy cat.png, 1\n./a.png\t0\n");
  const auto set = ImageDataset::open(folder.path.string());
  REQUIRE(set.ok());
  REQUIRE(set->samples().size() == 3);
  CHECK(set->samples()[0].path == "sub/c.png");
  CHECK(set->samples()[0].label == 2);
  CHECK(set->samples()[1].path == "my cat.png");
  CHECK(set->samples()[1].label == 1);
  CHECK(set->samples()[2].label == 0);
  CHECK(set->class_names() == std::vector<std::string>{"", "", "great white"});
  CHECK(*set->read(0) == image);
  CHECK(!set->read(3).ok());
  folder.write("synset_words.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\n");
  CHECK(ImageDataset::open(folder.path.string())->class_names()[0] == "tench, Tinca tinca");
}

TEST_CASE("dataset: bad labels name the line; no path leads out of the folder") {
  const TempFolder folder;
  folder.write("set/a.png", golden("rgb png"));
  folder.write("secret.png", golden("rgb png"));
  const struct {
    const char* labels;
    const char* message;
  } kCases[] = {
      {"a.png 0\na.png\n", "line 2: not `path class`"},
      {"a.png -1\n", "line 1: not `path class`"},
      {"a.png 1x\n", "line 1: not `path class`"},
      {"b.png 0\n", "line 1: no file b.png"},
      {"../secret.png 0\n", "line 1: no file ../secret.png"},
      {"/etc/passwd 0\n", "line 1: no file /etc/passwd"},
      {"\n", "no JPEG or PNG images"},
  };
  for (const auto& c : kCases) {
    folder.write("set/labels.txt", std::string(c.labels));
    const auto set = ImageDataset::open((folder.path / "set").string());
    REQUIRE(!set.ok());
    CHECK(mentions(set.error().message, c.message));
  }
  CHECK(ImageDataset::open((folder.path / "none").string()).error().code == Status::kNotFound);
}

TEST_CASE("dataset: a folder per class, or a plain folder") {
  const TempFolder folder;
  for (const char* name :
       {"tree/dog/1.png", "tree/cat/2.JPG", "tree/cat/1.png", "tree/cat/readme.txt", "plain/x.png"})
    folder.write(name, golden("rgb png"));
  const auto tree = ImageDataset::open((folder.path / "tree").string());
  REQUIRE(tree.ok());
  CHECK(tree->class_names() == std::vector<std::string>{"cat", "dog"});
  REQUIRE(tree->samples().size() == 3);
  CHECK(tree->samples()[0].path == "cat/1.png");
  CHECK(tree->samples()[0].label == 0);
  CHECK(tree->samples()[2].label == 1);
  const auto plain = ImageDataset::open((folder.path / "plain").string());
  REQUIRE(plain.ok());
  CHECK(plain->samples()[0].label == -1);
  CHECK(plain->class_names().empty());
}

TEST_CASE("dataset: a tar file gives what its folder gives, and damage is found") {
  const TempFolder folder;
  const std::string long_names[] = {std::string(90, 'd') + "/" + std::string(90, 'n'),
                                    std::string(150, 'n'), std::string(151, 'n')};
  folder.write("set/a.png", golden("rgb png"));
  for (size_t i = 0; i < 3; ++i) {
    const char* const format = std::array{"ustar", "gnu", "pax"}[i];
    const std::string& long_name = long_names[i];  // ustar can only split at a slash
    folder.write("set/" + long_name + ".jpg", golden("grey jpeg"));
    folder.write("set/labels.txt", long_name + ".jpg 5\na.png 3\n");
    const std::string tar = (folder.path / (std::string(format) + ".tar")).string();
    const std::string command = "tar --format=" + std::string(format) + " -C " +
                                folder.path.string() + " -cf " + tar + " set";
    REQUIRE(std::system(command.c_str()) == 0);
    const auto set = ImageDataset::open(tar);
    CAPTURE(format);
    REQUIRE(set.ok());
    REQUIRE(set->samples().size() == 2);
    CHECK(set->samples()[0].path == long_name + ".jpg");
    CHECK(set->samples()[0].label == 5);
    CHECK(*set->read(0) == golden("grey jpeg"));
    CHECK(*set->read(1) == golden("rgb png"));
    fs::remove(folder.path / "set" / (long_name + ".jpg"));
  }
  std::ifstream file(folder.path / "gnu.tar", std::ios::binary);
  const std::string tar((std::istreambuf_iterator<char>(file)), {});
  CHECK(mentions(ImageDataset::open(folder.write("cut.tar", tar.substr(0, 2000))).error().message,
                 "no end mark"));
  std::string flipped = tar;
  flipped[3] ^= 1;
  CHECK(mentions(ImageDataset::open(folder.write("bad.tar", flipped)).error().message,
                 "checksum mismatch"));
  CHECK(mentions(ImageDataset::open(folder.write("a.tar.gz", "\x1f\x8b" + std::string(600, 'z')))
                     .error()
                     .message,
                 "gzip"));
  CHECK(!ImageDataset::open(folder.write("short.tar", std::string("x"))).ok());
}

TEST_CASE("decode: netpbm pictures of 8 bits, grey and RGB, with comments") {
  const auto decode = [](const std::string& text) {
    return decode_image(std::as_bytes(std::span(text)), "a.pnm");
  };
  const auto grey = decode("P5 # a comment\n2 1\n255\n\x07\xF8");
  REQUIRE(grey.ok());
  CHECK(grey->width == 2);
  CHECK(grey->rgb == std::vector<uint8_t>{7, 7, 7, 248, 248, 248});
  const auto rgb = decode("P6\n1 2 255\nabcdef");
  REQUIRE(rgb.ok());
  CHECK(rgb->height == 2);
  CHECK(rgb->rgb == std::vector<uint8_t>{'a', 'b', 'c', 'd', 'e', 'f'});
  for (const char* bad : {"P5", "P5 2", "P5 2 1 255", "P5 2 1 255\na", "P5 2 1 65535\nabcd",
                          "P5 999999999 1 255\na", "P5 0 1 255\n", "P5 -1 1 255\na"})
    CHECK(!decode(bad).ok());
}

TEST_CASE("dataset: MNIST's files, plain") {
  const TempFolder folder;
  const std::string head("\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x03", 16), pixels = "abcxyz";
  const std::string images = folder.write("t-images-idx3-ubyte", head + pixels);
  auto set = ImageDataset::open(images);
  REQUIRE_MESSAGE(set.ok(), set.error().message);
  REQUIRE(set->samples().size() == 2);
  CHECK(set->samples()[1].label == -1);
  const auto image = decode_image(*set->read(1), "1");
  REQUIRE(image.ok());
  CHECK(image->width == 3);
  CHECK(image->rgb[3] == 'y');
  const std::string labels("\0\0\x08\x01\0\0\0\x02\x04\x09", 10);
  folder.write("t-labels-idx1-ubyte", labels);
  set = ImageDataset::open(images);
  REQUIRE(set.ok());
  CHECK(set->samples()[0].label == 4);
  CHECK(set->samples()[1].label == 9);
  folder.write("t-labels-idx1-ubyte", labels.substr(0, 9));
  CHECK(!ImageDataset::open(images).ok());
  for (const std::string& bad :
       {head, head + pixels + "!", std::string("\0\0\x08", 3), "x" + (head + pixels).substr(1)})
    CHECK(!ImageDataset::open(folder.write("u-images-idx3-ubyte", bad)).ok());
}
