// From a decoded image to the network's input: resize of the shorter side, centre crop,
// normalisation.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "converter/data/codec.h"

namespace mpq::data {

namespace {

using format::ImagePreprocess;

std::string size_text(uint64_t width, uint64_t height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

struct Size {
  uint32_t width = 0, height = 0;
};

// Shorter side to `shorter`, the other in proportion and rounded down, as torchvision's Resize.
Size scale_shorter(const Image& image, uint32_t shorter) {
  const auto longer = [shorter](uint32_t a, uint32_t b) {
    return static_cast<uint32_t>(uint64_t{shorter} * a / b);
  };
  return image.width <= image.height ? Size{shorter, longer(image.height, image.width)}
                                     : Size{longer(image.width, image.height), shorter};
}

// The least scaling after which the crop fits.
Size scale_to_cover(const Image& image, const ImagePreprocess& spec) {
  const double factor = std::max(static_cast<double>(spec.crop_w) / image.width,
                                 static_cast<double>(spec.crop_h) / image.height);
  const auto scaled = [factor](uint32_t side, uint32_t crop) {
    return std::max(crop, static_cast<uint32_t>(side * factor + 0.5));
  };
  return {scaled(image.width, spec.crop_w), scaled(image.height, spec.crop_h)};
}

bool covers(Size size, const ImagePreprocess& spec) {
  return size.width >= spec.crop_w && size.height >= spec.crop_h;
}

Size target_size(const Image& image, const ImagePreprocess& spec) {
  const Size original{image.width, image.height};
  const bool small = std::min(image.width, image.height) <= spec.resize_shorter;
  if (spec.resize == ImagePreprocess::Resize::kNone || spec.resize_shorter == 0 ||
      (spec.crop_only_small && small && covers(original, spec)))
    return original;
  return scale_shorter(image, spec.resize_shorter);
}

// round_half_even((side - crop) / 2), Python's round() in torchvision's CenterCrop: 227 -> 224
// gives 2.
uint32_t crop_offset(uint32_t side, uint32_t crop) {
  const uint32_t excess = side - crop;
  return excess / 2 + (excess % 4 == 3 ? 1 : 0);
}

}  // namespace

Result<std::vector<uint8_t>> preprocess(const Image& image, const ImagePreprocess& spec) {
  if (spec.crop_h == 0 || spec.crop_w == 0)
    return Error{Status::kInvalidArgument,
                 "crop of " + size_text(spec.crop_w, spec.crop_h) + " is empty"};
  MPQ_CHECK(check_size(image.width, image.height));
  Size size = target_size(image, spec);
  if (!covers(size, spec)) {
    if (spec.resize == ImagePreprocess::Resize::kNone)
      return Error{Status::kInvalidArgument, "image of " + size_text(image.width, image.height) +
                                                 " is smaller than the crop of " +
                                                 size_text(spec.crop_w, spec.crop_h)};
    size = scale_to_cover(image, spec);
  }
  MPQ_CHECK(check_size(size.width, size.height));  // a 1x60000 line would grow past any limit
  MPQ_CHECK(check_size(size.width, image.height));

  const bool same = size.width == image.width && size.height == image.height;
  const Image resized = same ? Image{} : resize(image, size.width, size.height, spec.resize);
  const Image& source = same ? image : resized;

  const size_t x = crop_offset(source.width, spec.crop_w);
  const size_t y = crop_offset(source.height, spec.crop_h);
  const size_t row_bytes = size_t{spec.crop_w} * 3;
  std::vector<uint8_t> out(row_bytes * spec.crop_h);
  for (size_t row = 0; row < spec.crop_h; ++row)
    std::memcpy(out.data() + row * row_bytes,
                source.rgb.data() + ((y + row) * source.width + x) * 3, row_bytes);
  return out;
}

std::vector<float> normalise_nchw(std::span<const uint8_t> nhwc, const ImagePreprocess& spec) {
  const size_t pixels = size_t{spec.crop_h} * spec.crop_w;
  assert(pixels != 0 && nhwc.size() % (pixels * 3) == 0);
  std::vector<float> out(nhwc.size());
  for (size_t image = 0; image < nhwc.size(); image += pixels * 3)
    for (size_t c = 0; c < 3; ++c)
      for (size_t i = 0; i < pixels; ++i)
        out[image + c * pixels + i] =
            (static_cast<float>(nhwc[image + i * 3 + c]) / 255.0F - spec.mean[c]) / spec.stddev[c];
  return out;
}

}  // namespace mpq::data
