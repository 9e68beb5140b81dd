// PNG by libpng: 8-bit RGB out; palettes and grey expanded, 16 bit cut to the high byte, alpha
// dropped and gamma ignored, as Pillow's convert("RGB") does.
#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "converter/data/codec.h"

namespace mpq::data {

namespace {

// As in jpeg.cc: errors arrive by longjmp, so what has a destructor lives outside the C-like
// function.
struct PngDecoder {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::span<const std::byte> rest;
  char reason[128] = "";
  Checked size = Ok{};
  std::vector<png_bytep> rows;
  Image image;

  PngDecoder() = default;
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;
  ~PngDecoder() { png_destroy_read_struct(&png, &info, nullptr); }
};

[[noreturn]] void fail(png_structp png, png_const_charp reason) {
  auto* decoder = static_cast<PngDecoder*>(png_get_error_ptr(png));
  std::snprintf(decoder->reason, sizeof decoder->reason, "%s", reason);
  png_longjmp(png, 1);
}

void ignore_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep out, size_t size) {
  auto* decoder = static_cast<PngDecoder*>(png_get_io_ptr(png));
  if (size > decoder->rest.size()) png_error(png, "premature end of file");
  std::memcpy(out, decoder->rest.data(), size);
  decoder->rest = decoder->rest.subspan(size);
}

bool decode(PngDecoder* d) {
  if (setjmp(png_jmpbuf(d->png)) != 0) return false;
  png_set_read_fn(d->png, d, read_bytes);
  png_set_user_limits(d->png, static_cast<png_uint_32>(kMaxPixels),
                      static_cast<png_uint_32>(kMaxPixels));
  png_read_info(d->png, d->info);
  const png_uint_32 width = png_get_image_width(d->png, d->info);
  const png_uint_32 height = png_get_image_height(d->png, d->info);
  d->size = check_size(width, height);
  if (!d->size) return false;

  png_set_expand(d->png);  // palette -> RGB, 1/2/4-bit grey -> 8 bit, transparency -> alpha
  png_set_strip_16(d->png);
  png_set_strip_alpha(d->png);
  png_set_gray_to_rgb(d->png);
  png_set_interlace_handling(d->png);
  png_read_update_info(d->png, d->info);
  if (png_get_rowbytes(d->png, d->info) != size_t{width} * 3)
    png_error(d->png, "unexpected row size");

  d->image.width = width;
  d->image.height = height;
  d->image.rgb.resize(size_t{width} * height * 3);
  d->rows.resize(height);
  for (size_t y = 0; y < height; ++y) d->rows[y] = d->image.rgb.data() + y * width * 3;
  png_read_image(d->png, d->rows.data());
  png_read_end(d->png, nullptr);
  return true;
}

}  // namespace

Result<Image> decode_png(std::span<const std::byte> bytes) {
  PngDecoder decoder;
  decoder.rest = bytes;
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, fail, ignore_warning);
  if (decoder.png != nullptr) decoder.info = png_create_info_struct(decoder.png);
  if (decoder.info == nullptr) return Error{Status::kOutOfMemory, "PNG: cannot start the decoder"};
  if (decode(&decoder)) return std::move(decoder.image);
  if (!decoder.size) return decoder.size.error();
  return Error{Status::kCorrupt, std::string("PNG: ") + decoder.reason};
}

}  // namespace mpq::data
