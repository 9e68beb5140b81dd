#include "converter/data/image.h"

#include <algorithm>
#include <array>

#include "converter/data/codec.h"
#include "converter/data/read_file.h"

namespace mpq::data {

namespace {

struct Codec {
  std::array<uint8_t, 4> magic;
  size_t magic_size;
  Result<Image> (*decode)(std::span<const std::byte>);
};

constexpr Codec kCodecs[] = {
    {{0xFF, 0xD8, 0xFF}, 3, decode_jpeg},
    {{0x89, 'P', 'N', 'G'}, 4, decode_png},
    {{'P', '5'}, 2, decode_pnm},
    {{'P', '6'}, 2, decode_pnm},
};

bool starts_with(std::span<const std::byte> bytes, const Codec& codec) {
  return bytes.size() >= codec.magic_size &&
         std::equal(codec.magic.begin(), codec.magic.begin() + codec.magic_size, bytes.begin(),
                    [](uint8_t a, std::byte b) { return a == std::to_integer<uint8_t>(b); });
}

}  // namespace

Checked check_size(uint64_t width, uint64_t height) {
  const std::string size = std::to_string(width) + "x" + std::to_string(height);
  if (width == 0 || height == 0) return Error{Status::kCorrupt, "empty image of " + size};
  if (width > kMaxPixels || height > kMaxPixels || width * height > kMaxPixels)
    return Error{Status::kLimit, "image of " + size + " has more than " +
                                     std::to_string(kMaxPixels >> 20) + " megapixels"};
  return Ok{};
}

Result<Image> decode_image(std::span<const std::byte> bytes, const std::string& name_for_errors) {
  for (const Codec& codec : kCodecs) {
    if (!starts_with(bytes, codec)) continue;
    Result<Image> image = codec.decode(bytes);
    if (!image) return Error{image.error().code, name_for_errors + ": " + image.error().message};
    return image;
  }
  return Error{Status::kCorrupt, name_for_errors + ": neither JPEG nor PNG nor netpbm (" +
                                     std::to_string(bytes.size()) + " bytes)"};
}

Result<Image> load_image(const std::string& path) {
  MPQ_TRY(const std::vector<std::byte> bytes, read_file(path));
  return decode_image(bytes, path);
}

}  // namespace mpq::data
