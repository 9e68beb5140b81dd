// The image codecs behind decode_image. Errors carry the reason only; the caller adds the name.
#pragma once

#include "converter/data/image.h"

namespace mpq::data {

// Limits that keep a hostile or mistaken file from taking the machine: 64 megapixels are 192 MB of
// RGB, larger than any camera picture that one classifies.
inline constexpr uint64_t kMaxPixels = uint64_t{64} << 20;
inline constexpr int kMaxJpegScans = 500;  // progressive files can ask for millions of passes

Result<Image> decode_jpeg(std::span<const std::byte> bytes);
Result<Image> decode_png(std::span<const std::byte> bytes);
Result<Image> decode_pnm(std::span<const std::byte> bytes);

// Error when the picture is empty or has more than kMaxPixels.
Checked check_size(uint64_t width, uint64_t height);

}  // namespace mpq::data
