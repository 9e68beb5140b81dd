// Encoded images to the u8 tensors that models read. Used by the converter (calibration) and the
// tools.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/model.h"
#include "format/status.h"

namespace mpq::data {

struct Image {  // RGB, interleaved, 8 bit
  uint32_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  // height * width * 3
};

// JPEG (libjpeg-turbo, same pixels as Pillow), PNG (libpng; alpha dropped, palette and grey
// expanded) or binary netpbm (P5, P6), recognised by magic. Grey and CMYK JPEGs become RGB.
Result<Image> decode_image(std::span<const std::byte> bytes, const std::string& name_for_errors);
Result<Image> load_image(const std::string& path);

// Equal to Pillow's Image.resize(size, BILINEAR / BICUBIC / BOX) on 8-bit images, bit for bit.
Image resize(const Image& image, uint32_t width, uint32_t height,
             format::ImagePreprocess::Resize method);

// Resize of the shorter side and centre crop as `spec` says; pads nothing: an image smaller than
// the crop is scaled up. Returns crop_h * crop_w * 3 bytes, NHWC.
Result<std::vector<uint8_t>> preprocess(const Image& image, const format::ImagePreprocess& spec);

// (pixel / 255 - mean) / stddev in binary32, NCHW: what a float network reads. One or more images
// of the crop's size.
std::vector<float> normalise_nchw(std::span<const uint8_t> nhwc,
                                  const format::ImagePreprocess& spec);

}  // namespace mpq::data
