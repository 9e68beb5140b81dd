// Binary netpbm pictures of 8 bits: P5 (grey) and P6 (RGB).
#include <algorithm>
#include <cctype>

#include "converter/data/codec.h"

namespace mpq::data {
namespace {

// The next number of the header: after white space and comments, before one white space.
Result<uint32_t> number(std::span<const std::byte> bytes, size_t* at) {
  const auto peek = [&] { return *at < bytes.size() ? std::to_integer<int>(bytes[*at]) : -1; };
  while (std::isspace(peek()) != 0 || peek() == '#') {
    const bool comment = peek() == '#';
    ++*at;
    while (comment && peek() != '\n' && peek() >= 0) ++*at;
  }
  uint32_t value = 0;
  const size_t first = *at;
  for (; std::isdigit(peek()) != 0; ++*at) {
    if (*at - first >= 8) return Error{Status::kCorrupt, "a number of its header is too large"};
    value = value * 10 + static_cast<uint32_t>(peek() - '0');
  }
  if (*at == first || std::isspace(peek()) == 0)
    return Error{Status::kCorrupt, "its header is cut off or has no number"};
  return value;
}

}  // namespace

Result<Image> decode_pnm(std::span<const std::byte> bytes) {
  const size_t channels = std::to_integer<int>(bytes[1]) == '5' ? 1 : 3;
  size_t at = 2;
  Image image;
  MPQ_TRY(image.width, number(bytes, &at));
  MPQ_TRY(image.height, number(bytes, &at));
  MPQ_TRY(const uint32_t largest, number(bytes, &at));
  ++at;  // one white space
  MPQ_CHECK(check_size(image.width, image.height));
  if (largest != 255)
    return Error{Status::kUnsupported,
                 "values up to " + std::to_string(largest) + ", only 255 is read"};
  const size_t pixels = size_t{image.width} * image.height;
  if (bytes.size() - std::min(at, bytes.size()) < pixels * channels)
    return Error{Status::kCorrupt, "has fewer pixels than its header says"};
  image.rgb.resize(pixels * 3);
  for (size_t i = 0; i < image.rgb.size(); ++i)
    image.rgb[i] = std::to_integer<uint8_t>(bytes[at + (channels == 3 ? i : i / 3)]);
  return image;
}

}  // namespace mpq::data
