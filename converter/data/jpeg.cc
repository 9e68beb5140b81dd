// JPEG by libjpeg-turbo with its defaults (accurate integer DCT, fancy upsampling, block
// smoothing): what Pillow and torchvision decode with, hence the same pixels.
#include <csetjmp>
// clang-format off
#include <cstdio>  // jpeglib.h uses FILE and size_t without including them
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include "converter/data/codec.h"

namespace mpq::data {

namespace {

// libjpeg reports errors by a callback that must not return, so decoding happens in one C-like
// function between setjmp and longjmp; everything with a destructor lives in this struct outside
// it.
struct JpegDecoder {
  jpeg_error_mgr errors;  // first: libjpeg's callbacks get a pointer to it
  std::jmp_buf on_error;
  char message[JMSG_LENGTH_MAX] = "";
  jpeg_progress_mgr progress;
  jpeg_decompress_struct info;
  Checked size = Ok{};
  std::vector<uint8_t> cmyk_row;
  Image image;

  JpegDecoder() : errors{}, on_error{}, progress{}, info{} {}
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() { jpeg_destroy_decompress(&info); }
};

[[noreturn]] void fail(j_common_ptr info) {
  auto* decoder = reinterpret_cast<JpegDecoder*>(info->err);
  info->err->format_message(info, decoder->message);
  std::longjmp(decoder->on_error, 1);
}

// Warnings leave the picture as libjpeg mends it, as in Pillow; but a file that ends too early
// would silently become grey, so that one is an error.
void on_message(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) fail(info);
}

void on_progress(j_common_ptr info) {
  auto* decoder = reinterpret_cast<JpegDecoder*>(info->err);
  if (decoder->info.input_scan_number <= kMaxJpegScans) return;
  std::snprintf(decoder->message, sizeof decoder->message, "more than %d scans", kMaxJpegScans);
  std::longjmp(decoder->on_error, 1);
}

// Pillow's CMYK -> RGB. Files store inverted ink (Adobe's habit), so `c` here is 255 - ink.
uint8_t cmyk_to_rgb(uint8_t c, uint8_t k) {
  const int ink = 255 - c;
  const int t = ink * k + 128;
  const int v = k - ((t + (t >> 8)) >> 8);
  return static_cast<uint8_t>(v < 0 ? 0 : v);
}

bool decode(JpegDecoder* d, std::span<const std::byte> bytes) {
  jpeg_decompress_struct* const info = &d->info;
  if (setjmp(d->on_error) != 0) return false;
  jpeg_create_decompress(info);
  info->progress = &d->progress;
  jpeg_mem_src(info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(info, TRUE);
  d->size = check_size(info->image_width, info->image_height);
  if (!d->size) return false;
  const bool cmyk = info->num_components == 4;
  info->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;  // grey becomes RGB inside libjpeg
  d->image.width = info->image_width;
  d->image.height = info->image_height;
  d->image.rgb.resize(size_t{info->image_width} * info->image_height * 3);
  if (cmyk) d->cmyk_row.resize(size_t{info->image_width} * 4);

  jpeg_start_decompress(info);
  while (info->output_scanline < info->output_height) {
    uint8_t* const rgb =
        d->image.rgb.data() + size_t{info->output_scanline} * info->image_width * 3;
    JSAMPROW row = cmyk ? d->cmyk_row.data() : rgb;
    jpeg_read_scanlines(info, &row, 1);
    for (size_t x = 0; cmyk && x < info->image_width; ++x)
      for (size_t c = 0; c < 3; ++c) rgb[x * 3 + c] = cmyk_to_rgb(row[x * 4 + c], row[x * 4 + 3]);
  }
  jpeg_finish_decompress(info);
  return true;
}

}  // namespace

Result<Image> decode_jpeg(std::span<const std::byte> bytes) {
  JpegDecoder decoder;
  decoder.info.err = jpeg_std_error(&decoder.errors);
  decoder.errors.error_exit = fail;
  decoder.errors.emit_message = on_message;
  decoder.progress.progress_monitor = on_progress;
  if (decode(&decoder, bytes)) return std::move(decoder.image);
  if (!decoder.size) return decoder.size.error();
  return Error{Status::kCorrupt, std::string("JPEG: ") + decoder.message};
}

}  // namespace mpq::data
